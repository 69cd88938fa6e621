/**
 * What the hub and its executors log: live, by level, executor and text.
 */
import { computed, signal } from "@preact/signals";
import type { JSX } from "preact";
import { useEffect } from "preact/hooks";
import { clock, count, NOTHING, plural } from "../core/format.ts";
import { fitting, LEVELS, type Log, type LogRecord } from "../core/logs.ts";
import { executors } from "../hub/feeds.ts";
import { Empty, Lines, Panel, State, Table, Trace } from "../ui/parts.tsx";
import { showCalls, wantedText } from "./links.ts";
import { listen, log, refusal } from "./logs-state.ts";

const SHOWN = 200;
const level = signal("debug");
const executor = signal("");
/** The log as it was when somebody pressed "Pause". */
const paused = signal<Log | undefined>(undefined);

const fits = computed(() => fitting((paused.value ?? log.value).records, { level: level.value, executor: executor.value, text: wantedText.value }));
const names = computed(() => {
  const told = executors.value.map(({ id }) => id);
  return [...new Set([...told, ...log.value.records.flatMap((record) => record.executor ?? [])])].toSorted();
});

export function Logs(): JSX.Element {
  useEffect(listen, []);
  const rows = fits.value.slice(-SHOWN).toReversed();
  return (
    <>
      <h1 class="hidden">Logs</h1>
      <Panel title="Log" note={<Counts />} actions={<Buttons />}>
        <Filters />
        {rows.length === 0 ? (
          <Empty>{refusal.value ?? (log.value.records.length === 0 ? "Nothing has been logged yet." : "No record matches the filter.")}</Empty>
        ) : (
          <Table label="Log records" head={["at", "level", "executor", "message", "trace or request"]} class="log-table">
            {rows.map((record) => (
              <Row key={record.number} record={record} />
            ))}
          </Table>
        )}
      </Panel>
    </>
  );
}

function Counts(): JSX.Element {
  const { received, dropped } = paused.value ?? log.value;
  const hidden = fits.value.length - SHOWN;
  return (
    <>
      {plural(received, "record")}
      <b class={dropped > 0 ? "bad" : ""}>, dropped {count(dropped)}</b>
      {hidden > 0 && `; the last ${SHOWN} that match`}
    </>
  );
}

function Buttons(): JSX.Element {
  const isPaused = paused.value !== undefined;
  const since = log.value.received - (paused.value?.received ?? 0);
  return (
    <button type="button" aria-pressed={isPaused} onClick={() => void (paused.value = isPaused ? undefined : log.value)}>
      {isPaused ? `Resume (${count(since)} new)` : "Pause"}
    </button>
  );
}

function Filters(): JSX.Element {
  return (
    <div class="filters" role="search" aria-label="Log records">
      <label>
        Level
        <select value={level.value} onChange={({ currentTarget }) => void (level.value = currentTarget.value)}>
          {LEVELS.map((name, place) => (
            <option key={name} value={name}>
              {place === 0 ? "all" : place === LEVELS.length - 1 ? name : `${name} and above`}
            </option>
          ))}
        </select>
      </label>
      <label>
        Executor
        <select value={executor.value} onChange={({ currentTarget }) => void (executor.value = currentTarget.value)}>
          <option value="">all executors and the hub</option>
          {names.value.map((name) => (
            <option key={name} value={name}>
              {name}
            </option>
          ))}
        </select>
      </label>
      <label class="grow">
        Containing
        <input type="search" value={wantedText.value} placeholder="text, logger, trace or request id" onInput={({ currentTarget }) => void (wantedText.value = currentTarget.value)} />
      </label>
    </div>
  );
}

const TONES: Readonly<Record<string, string>> = { debug: "quiet", info: "good", warning: "warn", error: "bad", critical: "bad" };

function Row({ record }: { readonly record: LogRecord }): JSX.Element {
  const { level: name, logger, text, exception, more } = record;
  if (record.gap) {
    return (
      <tr class="gap">
        <td>{clock(record.at)}</td>
        <td colSpan={4}>{text}</td>
      </tr>
    );
  }
  return (
    <tr>
      <td>{clock(record.at)}</td>
      <td>
        <State tone={TONES[name] ?? "quiet"}>{name}</State>
      </td>
      <td>{record.executor ?? NOTHING}</td>
      <td class="wide">
        {text.includes("\n") ? <Lines text={text} label="Message" /> : text}{" "}
        <span class="note">{[logger, more].filter(Boolean).join(" · ")}</span>
        {exception !== undefined && <Lines text={exception} label="Traceback" />}
      </td>
      <Trace id={record.traceId ?? record.requestId} follow={showCalls} leads="Calls of" />
    </tr>
  );
}
