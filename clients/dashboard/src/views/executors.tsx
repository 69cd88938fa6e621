/**
 * A lane for each executor: what it does, what it did, what it costs.
 */
import type { JSX } from "preact";
import { factsOf } from "../core/facts.ts";
import { clock, duration, milliseconds, plural } from "../core/format.ts";
import { isWorking } from "../core/incidents.ts";
import { runningCallOf } from "../core/inflight.ts";
import { PLACES, runs, type Stretch } from "../core/lanes.ts";
import { hasRoutingKeys } from "../core/openrpc.ts";
import type { Executor } from "../core/reports.ts";
import { catalogue, executors, happened, lanes } from "../hub/feeds.ts";
import { now } from "../hub/link.ts";
import { live, oldBy } from "../hub/status.ts";
import { Empty, notAllowed, Panel, State } from "../ui/parts.tsx";

export function Executors(): JSX.Element {
  const list = executors.value;
  const working = list.filter((executor) => isWorking(executor)).length;
  return (
    <>
      <h1 class="hidden">Executors</h1>
      <Panel title="Executors" note={list.length === 0 ? undefined : `${working} of ${list.length} working; lanes show the last five minutes`}>
        {oldBy.value !== undefined && <p class="warning">Last known state, {duration(oldBy.value)} ago.</p>}
        {list.length === 0 ? (
          <Empty>{notAllowed("system.executors") ?? "This hub has no executors."}</Empty>
        ) : (
          <ul class={`lanes ${live.value ? "" : "old"}`}>
            {list.map((executor) => (
              <Lane key={executor.id} executor={executor} />
            ))}
          </ul>
        )}
      </Panel>
    </>
  );
}

const TONES: Readonly<Record<string, string>> = {
  ready: "good",
  busy: "busy",
  starting: "warn",
  stopping: "warn",
  silent: "bad",
  down: "bad",
};

function Lane({ executor }: { readonly executor: Executor }): JSX.Element {
  const tone = TONES[executor.status] ?? "quiet";
  return (
    <li class={`lane ${tone}`} aria-label={executor.id}>
      <div class="who">
        <b>{executor.id}</b>
        <State tone={tone}>{executor.status}</State>
        <span class="note">{executor.pid === undefined ? "no process" : `pid ${executor.pid}`}</span>
      </div>
      <Bar id={executor.id} stretches={lanes.value.get(executor.id) ?? []} />
      <dl class="facts">
        {factsOf(executor, hasRoutingKeys(catalogue.value)).map(([label, value]) => (
          <div key={label}>
            <dt>{label}</dt>
            <dd>{value}</dd>
          </div>
        ))}
      </dl>
      <Running executor={executor} />
      <LastTrouble executor={executor} />
    </li>
  );
}

/** Why it does not work; once it does again, what was the matter while this page looked. */
function LastTrouble({ executor }: { readonly executor: Executor }): JSX.Element | null {
  if (executor.lastFailure !== undefined) {
    return <p class={isWorking(executor) ? "cause" : "cause bad"}>Last failure: {executor.lastFailure}</p>;
  }
  const last = happened.value.find(({ id, tone }) => id === executor.id && tone === "bad");
  return last === undefined ? null : (
    <p class="cause">
      Last failure, {clock(last.at)}: {last.text}
    </p>
  );
}

const SHOWN_CALLS = 6;

/** What it runs at the moment, the oldest first. */
function Running({ executor }: { readonly executor: Executor }): JSX.Element | null {
  const all = executor.running ?? [];
  if (executor.running === undefined) {
    return null;
  }
  const calls = all.slice(0, SHOWN_CALLS).map((item, index) => runningCallOf(item, index, now.value));
  return (
    <ul class="running" aria-label={`${executor.id} runs`}>
      {calls.map((call) => (
        <li key={call.key}>
          <span class="mono">{call.method}</span> {milliseconds(call.runningMs)}
          {call.raw.parked === true && <span class="note"> waits for a nested call</span>}
        </li>
      ))}
      {all.length === 0 && <li class="note">idle</li>}
      {all.length > calls.length && <li class="note">and {plural(all.length - calls.length, "more call")}</li>}
    </ul>
  );
}

/** The last five minutes, oldest on the left. */
function Bar({ id, stretches }: { readonly id: string; readonly stretches: readonly Stretch[] }): JSX.Element {
  return (
    <svg class="bar" viewBox={`0 0 ${PLACES} 10`} preserveAspectRatio="none" role="img" aria-label={`${id}, last five minutes`}>
      {runs(stretches, now.value).map(({ status, from, places }) => (
        <rect key={from} class={TONES[status] ?? "quiet"} x={from} y="0" width={places} height="10" />
      ))}
    </svg>
  );
}
