/**
 * Calls: which run now, which failed and how often, which have just ended.
 */
import { computed, signal } from "@preact/signals";
import type { JSX } from "preact";
import { ago, clock, count, milliseconds, NOTHING, plural } from "../core/format.ts";
import type { FailureGroup } from "../core/failures.ts";
import type { EndedCall } from "../core/reports.ts";
import { calls, callsNotTold, failures } from "../hub/feeds.ts";
import { now } from "../hub/link.ts";
import { Empty, Message, notAllowed, Panel, State, Table, toneOf, Trace } from "../ui/parts.tsx";
import { bringBack, copyCall } from "./failed-call.ts";
import { InFlight } from "./in-flight.tsx";
import { showLog, wantedId } from "./links.ts";

const SHOWN = 60;
const method = signal("");
const outcome = signal("");
const principal = signal("");
/** The calls as they were when somebody pressed "Pause". */
const paused = signal<readonly EndedCall[] | undefined>(undefined);

const outcomes = computed(() => [...new Set(calls.value.map((call) => call.outcome))].toSorted());
const shown = computed(() => {
  const list = paused.value ?? calls.value;
  return list.filter((call) => fits(call)).slice(-SHOWN).toReversed();
});

function fits(call: EndedCall): boolean {
  const named = call.method.toLowerCase().includes(method.value.trim().toLowerCase());
  const who = (call.principal ?? "").toLowerCase().includes(principal.value.trim().toLowerCase());
  const wanted = outcome.value === "failed" ? call.outcome !== "ok" : outcome.value === "" || call.outcome === outcome.value;
  const id = wantedId.value.trim();
  return named && who && wanted && (id === "" || call.traceId?.includes(id) === true || call.requestId?.includes(id) === true);
}

export function Requests(): JSX.Element {
  return (
    <>
      <h1 class="hidden">Requests</h1>
      <InFlight />
      <Failures />
      <Recent />
    </>
  );
}

function Failures(): JSX.Element {
  const groups = failures.value;
  const clear = (
    <button type="button" onClick={() => void (failures.value = [])} disabled={groups.length === 0}>
      Clear
    </button>
  );
  return (
    <Panel title="Failures" note="grouped by method and error, since this page was loaded" actions={clear}>
      {groups.length === 0 ? (
        <Empty>{notAllowed("system.requests") ?? "No call has failed since this page was loaded."}</Empty>
      ) : (
        <Table label="Failures" head={["method", "error", { text: "calls", number: true }, "first", "last", "executor", "trace or request", ""]}>
          {groups.map((group) => (
            <FailureRow key={group.key} group={group} />
          ))}
        </Table>
      )}
    </Panel>
  );
}

function FailureRow({ group }: { readonly group: FailureGroup }): JSX.Element {
  const { last } = group;
  return (
    <tr>
      <td class="mono">{group.method}</td>
      <td>
        <State tone="bad">{group.outcome}</State>
        {group.code !== undefined && <span class="note"> {group.code}</span>}
        <Message text={last.message} />
      </td>
      <td class="number">{count(group.count)}</td>
      <td>{clock(group.firstAt)}</td>
      <td>{ago(group.lastAt, now.value)}</td>
      <td>{last.executor ?? NOTHING}</td>
      <Trace id={last.traceId ?? last.requestId} follow={showLog} leads="Log of" />
      <td class="buttons">
        <CallButtons call={last} />
      </td>
    </tr>
  );
}

function CallButtons({ call }: { readonly call: EndedCall }): JSX.Element {
  return (
    <>
      <button type="button" aria-label={`Copy ${call.method} as JSON`} onClick={() => void copyCall(call)}>
        Copy
      </button>
      <button type="button" aria-label={`Try again: ${call.method}`} onClick={() => void bringBack(call)}>
        Try again
      </button>
    </>
  );
}

function Recent(): JSX.Element {
  const isPaused = paused.value !== undefined;
  const button = (
    <button type="button" aria-pressed={isPaused} onClick={() => void (paused.value = isPaused ? undefined : calls.value)}>
      {isPaused ? "Resume" : "Pause"}
    </button>
  );
  const untold = callsNotTold.value;
  return (
    <Panel
      title="Recent calls"
      note={untold > 0 ? `${plural(untold, "more call")} ended, more than are reported one by one` : "the last 500 that ended"}
      actions={button}
    >
      <Filters />
      {shown.value.length === 0 ? (
        <Empty>{notAllowed("system.requests") ?? (calls.value.length === 0 ? "No call has ended since this page was loaded." : "No recent call matches the filter.")}</Empty>
      ) : (
        <Table label="Recent calls" head={["at", "method", "outcome", ...TIMES, "executor", "principal", "trace or request", ""]} class="tall">
          {shown.value.map((call) => (
            <CallRow key={call.number} call={call} />
          ))}
        </Table>
      )}
    </Panel>
  );
}

const TIMES = ["took", "waited", "ran"].map((text) => ({ text, number: true }) as const);

function Filters(): JSX.Element {
  return (
    <div class="filters" role="search" aria-label="Recent calls">
      <label>
        Method
        <input type="search" value={method.value} onInput={({ currentTarget }) => void (method.value = currentTarget.value)} />
      </label>
      <label>
        Outcome
        <select value={outcome.value} onChange={({ currentTarget }) => void (outcome.value = currentTarget.value)}>
          <option value="">all</option>
          <option value="failed">not ok</option>
          {outcomes.value.map((name) => (
            <option key={name} value={name}>
              {name}
            </option>
          ))}
        </select>
      </label>
      <label>
        Principal
        <input type="search" value={principal.value} onInput={({ currentTarget }) => void (principal.value = currentTarget.value)} />
      </label>
      <label>
        Trace or request
        <input type="search" value={wantedId.value} spellcheck={false} onInput={({ currentTarget }) => void (wantedId.value = currentTarget.value)} />
      </label>
    </div>
  );
}

function CallRow({ call }: { readonly call: EndedCall }): JSX.Element {
  return (
    <tr>
      <td>{clock(call.finishedAt)}</td>
      <td class="mono">{call.method}</td>
      <td>
        <State tone={toneOf(call.outcome)}>{call.outcome}</State>
        <Message text={call.message} />
      </td>
      <td class="number">{milliseconds(call.durationMs)}</td>
      <td class="number">{milliseconds(call.queueMs)}</td>
      <td class="number">{milliseconds(call.runMs)}</td>
      <td>{call.executor ?? NOTHING}</td>
      <td>{call.principal ?? NOTHING}</td>
      <Trace id={call.traceId ?? call.requestId} follow={showLog} leads="Log of" />
      <td class="buttons">
        <CallButtons call={call} />
      </td>
    </tr>
  );
}
