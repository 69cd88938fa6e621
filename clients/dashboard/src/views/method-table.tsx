/**
 * The calls of each method, the busiest method first.
 */
import { signal } from "@preact/signals";
import type { JSX } from "preact";
import { count, milliseconds } from "../core/format.ts";
import { look, type Look, type MethodLine } from "../core/methods.ts";
import asks from "../hub/asks.json" with { type: "json" };
import { usePoll } from "../hub/poll.ts";
import { live } from "../hub/status.ts";
import { Empty, Panel, Table } from "../ui/parts.tsx";

const SHOWN = 30;
const latest = signal<Look | undefined>(undefined);

export function MethodTable(): JSX.Element {
  usePoll(asks.views.overview, (result) => {
    latest.value = look(result, latest.peek(), Date.now());
  });
  const lines = latest.value?.lines.slice(0, SHOWN) ?? [];
  return (
    <Panel title="Methods" note="rates now; totals and durations since the hub started">
      {lines.length === 0 ? (
        <Empty>No call has ended yet.</Empty>
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

const NUMBERS = ["calls/s", "errors/s", "calls", "failed", "p50", "p95", "p99", "max"].map(
  (text) => ({ text, number: true }) as const,
);

function MethodRow({ line }: { readonly line: MethodLine }): JSX.Element {
  const failing = (line.failedPerSecond ?? 0) > 0;
  return (
    <tr>
      <td class="mono">{line.name}</td>
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
