/**
 * The calls of each method, the busiest method first.
 */
import { signal } from "@preact/signals";
import type { JSX } from "preact";
import { clock, count, milliseconds } from "../core/format.ts";
import { look, uncalled, type Look, type MethodLine } from "../core/methods.ts";
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
  const lines = ordered(latest.value?.lines ?? [], health.value?.methods ?? []).slice(0, SHOWN);
  return (
    <Panel title="Methods" note="rates now; totals and durations since the hub started">
      {lines.length === 0 ? (
        <Empty>{refusal.value ?? "No call has ended yet."}</Empty>
      ) : (
        <Table label="Methods" class={live.value ? "" : "old"} head={["method", ...NUMBERS]}>
          {lines.map((line) => (
            <MethodRow key={line.name} line={line} />
          ))}
        </Table>
      )}
    </Panel>
  );
}

/** What fails, or is not served, goes first, called or not. */
function ordered(lines: readonly MethodLine[], concerned: readonly MethodHealth[]): readonly MethodLine[] {
  const known = new Map(lines.map((line) => [line.name, line]));
  const first = concerned.map(({ name }) => known.get(name) ?? uncalled(name));
  const names = new Set(concerned.map(({ name }) => name));
  return [...first, ...lines.filter(({ name }) => !names.has(name))];
}

const NUMBERS = ["calls/s", "errors/s", "calls", "failed", "p50", "p95", "p99", "max"].map(
  (text) => ({ text, number: true }) as const,
);

function MethodRow({ line }: { readonly line: MethodLine }): JSX.Element {
  const failing = (line.failedPerSecond ?? 0) > 0;
  const concern = health.value?.methods.find(({ name }) => name === line.name);
  return (
    <tr>
      <td>
        <span class="mono">{line.name}</span>
        {concern !== undefined && (
          <>
            {" "}
            <State tone="bad">{concern.reason}</State>
            {concern.since !== undefined && <span class="note"> since {clock(concern.since)}</span>}
            <Message text={concern.error} />
          </>
        )}
      </td>
      <td class="number">{count(rounded(line.perSecond))}</td>
      <td class={`number ${failing ? "bad" : ""}`}>{count(rounded(line.failedPerSecond))}</td>
      <td class="number">{count(line.count)}</td>
      <td class="number">{count(line.failed)}</td>
      <td class="number">{milliseconds(line.p50)}</td>
      <td class="number">{milliseconds(line.p95)}</td>
      <td class="number">{milliseconds(line.p99)}</td>
      <td class="number">{milliseconds(line.max)}</td>
    </tr>
  );
}

function rounded(value: number | undefined): number | undefined {
  return value === undefined ? undefined : Math.round(value * 10) / 10;
}
