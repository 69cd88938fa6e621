/**
 * The calls of each method, from two looks at `metrics.get`: rates between them, durations since the hub started.
 */
import type { MethodMetrics } from "../hub/said.ts";
import { fieldsOf, numberOf, type Told } from "./reports.ts";

export interface MethodLine {
  readonly name: string;
  readonly count: number;
  readonly failed: number;
  /** Calls a second since the look before; undefined at the first. */
  readonly perSecond: number | undefined;
  readonly failedPerSecond: number | undefined;
  readonly p50: number | undefined;
  readonly p95: number | undefined;
  readonly p99: number | undefined;
  readonly max: number | undefined;
}

export interface Look {
  readonly at: number;
  readonly lines: readonly MethodLine[];
}

/** A method that nobody has called. */
export function uncalled(name: string): MethodLine {
  const nothing = { perSecond: undefined, failedPerSecond: undefined, p50: undefined, p95: undefined, p99: undefined, max: undefined };
  return { name, count: 0, failed: 0, ...nothing };
}

/** The busiest first. */
export function look(result: unknown, before: Look | undefined, at: number): Look {
  const known = new Map(before?.lines.map((line) => [line.name, line]));
  const seconds = before === undefined ? undefined : (at - before.at) / 1_000;
  const lines = Object.entries(fieldsOf(fieldsOf(result).methods)).map(([name, value]) =>
    lineOf(name, value, known.get(name), seconds),
  );
  return {
    at,
    lines: lines.toSorted((one, other) => (other.perSecond ?? 0) - (one.perSecond ?? 0) || other.count - one.count),
  };
}

function lineOf(name: string, value: unknown, was: MethodLine | undefined, seconds: number | undefined): MethodLine {
  const fields: Told<MethodMetrics> = fieldsOf(value);
  const count = numberOf(fields.count) ?? 0;
  const failed = count - (numberOf(fields.success) ?? count);
  // Smaller than before: the hub has started anew, and this is its first look.
  const counted = seconds !== undefined && seconds > 0 && count >= (was?.count ?? 0);
  return {
    name,
    count,
    failed,
    perSecond: counted ? (count - (was?.count ?? 0)) / seconds : undefined,
    failedPerSecond: counted ? Math.max(0, failed - (was?.failed ?? 0)) / seconds : undefined,
    p50: numberOf(fields.p50_ms),
    p95: numberOf(fields.p95_ms),
    p99: numberOf(fields.p99_ms),
    max: numberOf(fields.max_ms),
  };
}
