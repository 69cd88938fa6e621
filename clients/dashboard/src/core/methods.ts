/**
 * The calls of each method, from two looks at `metrics.get`: rates between them, durations since the hub started.
 */
import type { MethodMetrics } from "../hub/said.ts";
import { fieldsOf, numberOf, type MethodHealth, type Told } from "./reports.ts";

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

/** Methods that are not served, for one reason. */
export interface Unavailable {
  readonly reason: string;
  /** When the first of them was not served any more. */
  readonly since: number | undefined;
  /** Those that are called in vain first. */
  readonly lines: readonly MethodLine[];
  /** Their sums; durations have none. */
  readonly total: MethodLine;
}

export interface Arranged {
  readonly failing: readonly { readonly line: MethodLine; readonly concern: MethodHealth }[];
  readonly unavailable: readonly Unavailable[];
  readonly others: readonly MethodLine[];
}

/** All methods, called or not: those that fail, those that are not served by reason, and the others as they come. */
export function arranged(lines: readonly MethodLine[], concerned: readonly MethodHealth[]): Arranged {
  const known = new Map(lines.map((line) => [line.name, line]));
  const names = new Set(concerned.map(({ name }) => name));
  const rows = concerned.map((concern) => ({ line: known.get(concern.name) ?? uncalled(concern.name), concern }));
  const away = rows.filter(({ concern }) => concern.status === "unavailable");
  const reasons = [...new Set(away.map(({ concern }) => concern.reason))];
  return {
    failing: rows.filter(({ concern }) => concern.status !== "unavailable"),
    unavailable: reasons.map((reason) => unavailableFor(reason, away.filter(({ concern }) => concern.reason === reason))),
    others: lines.filter(({ name }) => !names.has(name)),
  };
}

function unavailableFor(reason: string, rows: Arranged["failing"]): Unavailable {
  const lines = rows.map(({ line }) => line).toSorted((one, other) => other.failed - one.failed || one.name.localeCompare(other.name));
  const times = rows.flatMap(({ concern }) => concern.since ?? []);
  return { reason, since: times.length === 0 ? undefined : Math.min(...times), lines, total: totalOf(reason, lines) };
}

function totalOf(name: string, lines: readonly MethodLine[]): MethodLine {
  const sum = (of: (line: MethodLine) => number | undefined): number => lines.reduce((total, line) => total + (of(line) ?? 0), 0);
  const told = lines.some(({ perSecond }) => perSecond !== undefined);
  return {
    ...uncalled(name),
    count: sum((line) => line.count),
    failed: sum((line) => line.failed),
    perSecond: told ? sum((line) => line.perSecond) : undefined,
    failedPerSecond: told ? sum((line) => line.failedPerSecond) : undefined,
  };
}
