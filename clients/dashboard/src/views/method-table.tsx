/**
 * The calls of each method: those that fail first, those that are not served as one row a reason, then the busiest.
 */
import { signal } from "@preact/signals";
import type { JSX } from "preact";
import { clock, count, milliseconds, plural } from "../core/format.ts";
import { arranged, look, type Look, type MethodLine, type Unavailable } from "../core/methods.ts";
import type { MethodHealth } from "../core/reports.ts";
import asks from "../hub/asks.json" with { type: "json" };
import { health } from "../hub/feeds.ts";
import { usePoll } from "../hub/poll.ts";
import { live } from "../hub/status.ts";
import { Empty, Message, Panel, State, Table } from "../ui/parts.tsx";

const SHOWN = 30;
const latest = signal<Look | undefined>(undefined);
/** Why the hub does not tell. */
const refusal = signal<string | undefined>(undefined);
/** The reasons whose methods are shown one by one. */
const opened = signal<ReadonlySet<string>>(new Set());

export function MethodTable(): JSX.Element {
  usePoll(
    asks.views.overview,
    (result) => {
      refusal.value = undefined;
      latest.value = look(result, latest.peek(), Date.now());
    },
    (why) => {
      refusal.value = why;
    },
  );
  const { failing, unavailable, others } = arranged(latest.value?.lines ?? [], health.value?.methods ?? []);
  const more = health.value?.methodsMore ?? 0;
  const room = Math.max(0, SHOWN - failing.length - unavailable.length);
  return (
    <Panel title="Methods" note={`rates now; totals and durations since the hub started${more > 0 ? `; ${count(more)} more are not served, or fail` : ""}`}>
      {failing.length + unavailable.length + others.length === 0 ? (
        <Empty>{refusal.value ?? "No call has ended yet."}</Empty>
      ) : (
        <Table label="Methods" class={live.value ? "" : "old"} head={["method", ...NUMBERS]}>
          {failing.map(({ line, concern }) => (
            <MethodRow key={line.name} line={line} concern={concern} />
          ))}
          {unavailable.map((group) => (
            <UnavailableRows key={group.reason} group={group} />
          ))}
          {others.slice(0, room).map((line) => (
            <MethodRow key={line.name} line={line} />
          ))}
        </Table>
      )}
    </Panel>
  );
}

const NUMBERS = ["calls/s", "errors/s", "calls", "failed", "p50", "p95", "p99", "max"].map(
  (text) => ({ text, number: true }) as const,
);

interface MethodRowProps {
  readonly line: MethodLine;
  readonly concern?: MethodHealth;
  /** Whether it stands below its reason. */
  readonly nested?: boolean;
}

function MethodRow({ line, concern, nested = false }: MethodRowProps): JSX.Element {
  return (
    <tr>
      <td class={nested ? "nested" : "wide"}>
        <span class="mono">{line.name}</span>
        {concern !== undefined && (
          <>
            {" "}
            <Concern reason={concern.reason} since={concern.since} />
            <Message text={concern.error} />
          </>
        )}
      </td>
      <Numbers line={line} />
    </tr>
  );
}

/** One method with the reason, or a row for all that has it, which can be opened. */
function UnavailableRows({ group }: { readonly group: Unavailable }): JSX.Element {
  const { reason, since, lines, total } = group;
  const isOpen = opened.value.has(reason);
  const [only] = lines;
  if (lines.length === 1 && only !== undefined) {
    return <MethodRow line={only} concern={{ name: only.name, status: "unavailable", since, reason, error: undefined }} />;
  }
  return (
    <>
      <tr>
        <td class="wide">
          <button type="button" class="link" aria-expanded={isOpen} onClick={() => {
              toggle(reason);
            }}>
            <span aria-hidden="true">{isOpen ? "\u25BE" : "\u25B8"}</span> {plural(lines.length, "method")}
          </button>{" "}
          <Concern reason={reason} since={since} />
        </td>
        <Numbers line={total} />
      </tr>
      {isOpen && lines.map((line) => <MethodRow key={line.name} line={line} nested />)}
    </>
  );
}

function toggle(reason: string): void {
  const others = [...opened.peek()].filter((each) => each !== reason);
  opened.value = new Set(opened.peek().has(reason) ? others : [...others, reason]);
}

function Concern({ reason, since }: { readonly reason: string; readonly since: number | undefined }): JSX.Element {
  return (
    <>
      <State tone="bad">{reason}</State>
      {since !== undefined && <span class="note"> since {clock(since)}</span>}
    </>
  );
}

function Numbers({ line }: { readonly line: MethodLine }): JSX.Element {
  const failing = (line.failedPerSecond ?? 0) > 0;
  return (
    <>
      <td class="number">{count(rounded(line.perSecond))}</td>
      <td class={`number ${failing ? "bad" : ""}`}>{count(rounded(line.failedPerSecond))}</td>
      <td class="number">{count(line.count)}</td>
      <td class="number">{count(line.failed)}</td>
      <td class="number">{milliseconds(line.p50)}</td>
      <td class="number">{milliseconds(line.p95)}</td>
      <td class="number">{milliseconds(line.p99)}</td>
      <td class="number">{milliseconds(line.max)}</td>
    </>
  );
}

function rounded(value: number | undefined): number | undefined {
  return value === undefined ? undefined : Math.round(value * 10) / 10;
}
