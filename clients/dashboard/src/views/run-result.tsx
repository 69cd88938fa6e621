/**
 * How a call from the console went: its result or error, its time, and of a stream when each chunk came.
 */
import type { JSX } from "preact";
import { bytes, clock, count, milliseconds } from "../core/format.ts";
import { jsonOf } from "../core/json.ts";
import { KEPT_CHUNKS, type ChunkTime, type Waterfall } from "../core/waterfall.ts";
import { fieldsOf, textOf, type Fields } from "../core/reports.ts";
import { copy } from "../ui/copy.ts";
import { Lines, Panel, State, Table } from "../ui/parts.tsx";
import { run, type Run } from "./console-state.ts";

const MAX_SHOWN = 100_000;

export function RunResult(): JSX.Element | null {
  const shown = run.value;
  if (shown === undefined) {
    return null;
  }
  return (
    <>
      <Outcome run={shown} />
      {shown.waterfall.count > 0 && <StreamPanel waterfall={shown.waterfall} total={shown.tookMs ?? shown.waterfall.lastMs ?? 0} />}
    </>
  );
}

function Outcome({ run: shown }: { readonly run: Run }): JSX.Element {
  const { outcome } = shown;
  const traceback = outcome.kind === "error" ? tracebackOf(outcome.details) : undefined;
  const text = outcome.kind === "running" ? undefined : jsonOf(outcome.kind === "result" ? outcome.value : outcome.details, 2);
  const shownText = traceback === undefined ? text : jsonOf(withoutTraceback(outcome.kind === "error" ? outcome.details : {}), 2);
  const copyButton = text !== undefined && (
    <button type="button" onClick={() => void copy(text, "the result")}>
      Copy
    </button>
  );
  return (
    <Panel title="Result" note={`${shown.method}, ${clock(shown.startedAt)}`} actions={copyButton} class="result">
      <p class="outcome" role="status">
        <Word outcome={outcome} />
        {shown.tookMs !== undefined && <span class="took">{milliseconds(shown.tookMs)}</span>}
        {shown.progress !== undefined && outcome.kind === "running" && <span class="note">progress {JSON.stringify(shown.progress)}</span>}
      </p>
      {outcome.kind === "error" && <p class="bad">{outcome.message}</p>}
      {traceback !== undefined && <Lines text={traceback} label="Traceback" />}
      {shownText !== undefined && (
        // oxlint-disable-next-line jsx-a11y/no-noninteractive-tabindex -- what scrolls has to be reachable by keys
        <pre role="region" tabIndex={0} aria-label="Result as JSON">
          {shownText.length > MAX_SHOWN ? `${shownText.slice(0, MAX_SHOWN)}\n… ${bytes(shownText.length)} in total; "Copy" copies all of it` : shownText}
        </pre>
      )}
    </Panel>
  );
}

/** The traceback of an error, as a hub with `--debug` sends it. */
function tracebackOf(details: Fields): string | undefined {
  const lines = fieldsOf(details.data).traceback;
  return Array.isArray(lines) ? lines.join("") : textOf(lines);
}

/** What else the error says: the traceback stands above it. */
function withoutTraceback(details: Fields): Fields {
  const { traceback: _, ...data } = fieldsOf(details.data);
  return { ...details, data };
}

function Word({ outcome }: { readonly outcome: Run["outcome"] }): JSX.Element {
  switch (outcome.kind) {
    case "running":
      return <State tone="busy">running</State>;
    case "result":
      return <State tone="good">ok</State>;
    case "error":
      return <State tone="bad">{outcome.name}</State>;
  }
}

const SHOWN_CHUNKS = 100;

function StreamPanel({ waterfall, total }: { readonly waterfall: Waterfall; readonly total: number }): JSX.Element {
  const { chunks, firstMs, longestGapMs, longestGapAfter, size } = waterfall;
  const facts: [string, string][] = [
    ["first chunk", milliseconds(firstMs)],
    ["chunks", count(waterfall.count)],
    ["longest gap", milliseconds(longestGapMs)],
    ["after chunk", longestGapAfter === undefined ? "–" : String(longestGapAfter)],
    ["size", bytes(size)],
    ["total", milliseconds(total)],
  ];
  const first = chunks.slice(-SHOWN_CHUNKS);
  return (
    <Panel title="Stream" note={waterfall.count > chunks.length ? `the last ${KEPT_CHUNKS} of ${count(waterfall.count)} chunks` : undefined} class="stream">
      <dl class="facts">
        {facts.map(([label, value]) => (
          <div key={label}>
            <dt>{label}</dt>
            <dd>{value}</dd>
          </div>
        ))}
      </dl>
      <Table label="Chunks" class="tall" head={["chunk", { text: "at", number: true }, { text: "gap", number: true }, "timeline", { text: "size", number: true }, "data"]}>
        {first.map((chunk, place) => (
          <ChunkRow key={chunk.index} chunk={chunk} before={first[place - 1]?.at ?? (chunk.index === 0 ? 0 : undefined)} total={total} />
        ))}
      </Table>
    </Panel>
  );
}

interface ChunkRowProps {
  readonly chunk: ChunkTime;
  readonly before: number | undefined;
  readonly total: number;
}

/** The wait for a chunk is the bar, its arrival the bar's end. */
function ChunkRow({ chunk, before, total }: ChunkRowProps): JSX.Element {
  const scale = 1_000 / Math.max(total, chunk.at, 1);
  const from = (before ?? chunk.at) * scale;
  const to = chunk.at * scale;
  return (
    <tr>
      <td>
        {chunk.index} <span class="note">{chunk.type}</span>
      </td>
      <td class="number">{milliseconds(chunk.at)}</td>
      <td class="number">{milliseconds(before === undefined ? undefined : chunk.at - before)}</td>
      {/* oxlint-disable-next-line jsx-a11y/control-has-associated-label -- a picture of the columns beside it */}
      <td class="timeline">
        <svg viewBox="0 0 1000 10" preserveAspectRatio="none" aria-hidden="true">
          <rect class="wait" x={from} y="4" width={Math.max(0, to - from)} height="2" />
          <rect class="arrival" x={Math.min(994, to)} y="0" width="6" height="10" />
        </svg>
      </td>
      <td class="number">{bytes(chunk.size)}</td>
      <td class="mono wide">{chunk.preview}</td>
    </tr>
  );
}
