/**
 * How the hub is, at a glance: what is wrong, the numbers, their last minutes.
 */
import { computed } from "@preact/signals";
import type { JSX } from "preact";
import { ago, bytes, clock, count, duration, megabytes, milliseconds } from "../core/format.ts";
import { failures, happened, health, metrics, refused, uptimeSeconds } from "../hub/feeds.ts";
import { now } from "../hub/link.ts";
import { causes, concerns, condition, fresh, live, oldBy, working } from "../hub/status.ts";
import { Chart, follow, span, zoom } from "../ui/chart.tsx";
import { Empty, Figure, Message, notAllowed, Panel, Table } from "../ui/parts.tsx";
import { MethodTable } from "./method-table.tsx";

const HEADLINES = {
  healthy: "Healthy",
  degraded: "Degraded",
  unhealthy: "Unhealthy",
  starting: "Starting",
  stopping: "Stopping",
  unknown: "Unknown",
} as const;

const SPANS = [
  [60, "1 min"],
  [300, "5 min"],
  [900, "15 min"],
] as const;

const LATENCY = [
  { name: "p50_ms", label: "p50", color: "--series-1" },
  { name: "p95_ms", label: "p95", color: "--series-2" },
  { name: "p99_ms", label: "p99", color: "--series-3" },
];
const CALLS = [
  { name: "calls_per_second", label: "calls/s", color: "--series-1" },
  { name: "errors_per_second", label: "errors/s", color: "--series-bad" },
];
const LOAD = [
  { name: "calls_in_flight", label: "in flight", color: "--series-1" },
  { name: "calls_waiting", label: "waiting", color: "--series-3" },
];
const WAIT = [
  { name: "run_p95_ms", label: "run", color: "--series-1" },
  { name: "wait_p95_ms", label: "queue", color: "--series-3" },
];
const TRAFFIC = [
  { name: "bytes_in_per_second", label: "in/s", color: "--series-1" },
  { name: "bytes_out_per_second", label: "out/s", color: "--series-2" },
];
const EVENTS = [
  { name: "events_per_second", label: "published/s", color: "--series-1" },
  { name: "deliveries_per_second", label: "delivered/s", color: "--series-2" },
];

export function Overview(): JSX.Element {
  return (
    <>
      <h1 class="hidden">Overview</h1>
      <HealthBanner />
      {notAllowed("system.metrics") === undefined ? <Numbers /> : <p class="warning">{notAllowed("system.metrics")}</p>}
      <div class="columns">
        <TopFailures />
        <Happened />
      </div>
      <MethodTable />
    </>
  );
}

function Numbers(): JSX.Element {
  return (
    <>
      <Figures />
      <TimeBar />
      <div class="charts">
        <Chart title="Calls" lines={CALLS} format={count} />
        <Chart title="Latency" lines={LATENCY} format={milliseconds} />
        <Chart title="Run and queue, p95" lines={WAIT} format={milliseconds} />
        <Chart title="Load" lines={LOAD} format={count} />
        <Chart title="Traffic of calls" lines={TRAFFIC} format={bytes} />
        <Chart title="Events" lines={EVENTS} format={count} />
      </div>
    </>
  );
}

const known = computed(() => [...causes.value, ...(live.value ? concerns.value : [])]);

const headline = computed(() => {
  const word = HEADLINES[condition.value];
  return fresh.value.word === "waiting" || live.value ? word : `Not live. Last known: ${word.toLowerCase()}`;
});

function HealthBanner(): JSX.Element {
  const shown = fresh.value.word === "waiting" || live.value;
  const uptime = uptimeSeconds.value;
  const since = health.value?.since;
  return (
    <section class={`banner ${shown ? condition.value : "not-live"} ${shown && concerns.value.length > 0 ? "concern" : ""}`} aria-label="Health">
      <div role="status">
        <p class="headline">
          {headline}
          {shown && since !== undefined && condition.value !== "healthy" && <small> since {clock(since)}</small>}
        </p>
        {!shown && <p>{fresh.value.sentence}</p>}
        {known.value.length > 0 && (
          <ul>
            {known.value.map((cause) => (
              <li key={cause}>{cause}</li>
            ))}
          </ul>
        )}
        {refused.value.health !== undefined && <p>{refused.value.health}</p>}
      </div>
      {shown && (
        <p class="uptime">
          {working.value}
          {uptime !== undefined && ` · up ${duration(uptime * 1_000)}`}
        </p>
      )}
    </section>
  );
}

function Figures(): JSX.Element {
  const numbers = metrics.value?.numbers ?? {};
  const errors = numbers.errors_per_second ?? 0;
  const waiting = numbers.calls_waiting ?? 0;
  return (
    <dl class="figures">
      <Figure label="calls/s" value={count(numbers.calls_per_second)} />
      <Figure label="errors/s" value={count(numbers.errors_per_second)} tone={errors > 0 ? "bad" : undefined} />
      <Figure label="p50" value={milliseconds(numbers.p50_ms)} />
      <Figure label="p95" value={milliseconds(numbers.p95_ms)} />
      <Figure label="p99" value={milliseconds(numbers.p99_ms)} />
      <Figure label="in flight" value={count(numbers.calls_in_flight)} />
      <Figure label="waiting" value={count(numbers.calls_waiting)} tone={waiting > 0 ? "warn" : undefined} />
      <Figure label="connections" value={count(numbers.connections)} />
      <Figure label="hub memory" value={megabytes(numbers.rss_mb)} />
    </dl>
  );
}

function TimeBar(): JSX.Element {
  const zoomed = zoom.value !== undefined;
  return (
    <div class="timebar" role="group" aria-label="Time shown in the charts">
      {SPANS.map(([seconds, label]) => (
        <button
          key={label}
          type="button"
          aria-pressed={!zoomed && span.value === seconds}
          onClick={() => {
            span.value = seconds;
            follow();
          }}
        >
          {label}
        </button>
      ))}
      {zoomed ? (
        <button type="button" class="primary" onClick={() => void follow()}>
          Back to now
        </button>
      ) : (
        <span class="note drag">Drag across a chart to zoom, double-click to reset. The last 15 min are kept.</span>
      )}
      {oldBy.value !== undefined && <span class="note bad">Charts end {duration(oldBy.value)} ago</span>}
    </div>
  );
}

const TOP = 6;

function TopFailures(): JSX.Element {
  const top = failures.value.slice(0, TOP);
  return (
    <Panel title="Latest failures" note={<a href="#/requests">all failures</a>}>
      {top.length === 0 ? (
        <Empty>{notAllowed("system.requests") ?? "No call has failed since this page was loaded."}</Empty>
      ) : (
        <Table label="Failures by method" head={["method", "error", { text: "calls", number: true }, "last"]}>
          {top.map((group) => (
            <tr key={group.key}>
              <td class="mono">{group.method}</td>
              <td class="wide">
                <span class="bad">{group.outcome}</span>
                <Message text={group.last.message} />
              </td>
              <td class="number">{count(group.count)}</td>
              <td>{ago(group.lastAt, now.value)}</td>
            </tr>
          ))}
        </Table>
      )}
    </Panel>
  );
}

function Happened(): JSX.Element {
  const list = happened.value.slice(0, 2 * TOP);
  return (
    <Panel title="Executor events" note="since this page was loaded">
      {list.length === 0 ? (
        <Empty>{notAllowed("system.executors") ?? "No executor has changed its state."}</Empty>
      ) : (
        <ol class="log">
          {list.map((incident) => (
            <li key={`${incident.at} ${incident.text}`} class={incident.tone}>
              <time>{clock(incident.at)}</time>
              <span>{incident.text}</span>
            </li>
          ))}
        </ol>
      )}
    </Panel>
  );
}
