/**
 * What is told of an executor beside its state: names and values, as people read them.
 */
import { count, duration, megabytes, milliseconds, NOTHING, percent, share, words } from "./format.ts";
import type { Executor } from "./reports.ts";

type Fact = readonly [string, string];

/** @param keyed whether the hub serves methods with a routing key: else nobody owns any. */
export function factsOf(executor: Executor, keyed: boolean): readonly Fact[] {
  return [
    ["running", count(executor.active)],
    ["calls", count(executor.requests)],
    ["errors", executor.errorRate === undefined ? count(executor.errors) : `${count(executor.errors)} (${share(executor.errorRate)})`],
    ["restarts", restarts(executor)],
    ["up", duration(executor.uptimeSeconds === undefined ? undefined : executor.uptimeSeconds * 1_000)],
    ["memory", executor.memoryPercent === undefined ? megabytes(executor.rssMb) : `${megabytes(executor.rssMb)} (${percent(executor.memoryPercent)})`],
    ["cpu", executor.cpuPercent === undefined ? NOTHING : percent(executor.cpuPercent)],
    ["ping", milliseconds(executor.pingMs)],
    ["packs", count(executor.packs)],
    ...(keyed ? slots(executor) : []),
    ...Object.entries(executor.more).map(([name, value]): Fact => [words(name), typeof value === "number" ? count(value) : String(value)]),
  ];
}

function slots({ slots: owned = 0, slotsLeaving = 0 }: Executor): Fact[] {
  const all: [string, number][] = [["routing slots", owned], ["moving slots", slotsLeaving]];
  return all.filter(([, many]) => many > 0).map(([label, many]): Fact => [label, count(many)]);
}

function restarts({ restarts: many, restartCauses }: Executor): string {
  const all = Object.entries(restartCauses);
  const causes = all.map(([cause, times]) => (all.length === 1 ? words(cause) : `${times} ${words(cause)}`));
  return causes.length === 0 ? count(many) : `${count(many)}: ${causes.join(", ")}`;
}
