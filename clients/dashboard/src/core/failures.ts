/**
 * Failed calls, grouped by what failed and how: thousands of the same are one line with a count.
 */
import type { EndedCall } from "./reports.ts";

const MAX_GROUPS = 100;

export interface FailureGroup {
  readonly key: string;
  readonly method: string;
  readonly outcome: string;
  readonly code: number | undefined;
  readonly count: number;
  readonly firstAt: number;
  readonly lastAt: number;
  readonly last: EndedCall;
}

/** Whether a call ended badly. Cancelled by its caller is not a failure of anything. */
export function isFailure(call: EndedCall): boolean {
  return call.outcome !== "ok" && call.outcome !== "CANCELLED" && call.outcome !== "unknown";
}

/** The groups with more calls counted in; the latest first, the oldest dropped beyond a hundred. */
export function grouped(groups: readonly FailureGroup[], calls: readonly EndedCall[], now: number): readonly FailureGroup[] {
  const failed = calls.filter((call) => isFailure(call));
  if (failed.length === 0) {
    return groups;
  }
  const byKey = new Map(groups.map((group) => [group.key, group]));
  for (const call of failed) {
    const key = `${call.method} ${call.outcome}`;
    const before = byKey.get(key);
    const at = call.finishedAt ?? now;
    byKey.set(key, {
      key,
      method: call.method,
      outcome: call.outcome,
      code: call.code,
      count: (before?.count ?? 0) + 1,
      firstAt: before?.firstAt ?? at,
      lastAt: at,
      last: call,
    });
  }
  return [...byKey.values()].toSorted((one, other) => other.lastAt - one.lastAt).slice(0, MAX_GROUPS);
}
