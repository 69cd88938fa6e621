/**
 * Calls in flight, where the hub lists them (`system.calls`), and how one of them is cancelled (`system.cancel`).
 */
import type { Method } from "./openrpc.ts";
import { fieldsOf, isFields, listOf, numberOf, textOf, type Fields } from "./reports.ts";

export const CANCEL_METHOD = "system.cancel";

export interface RunningCall {
  readonly key: string;
  readonly method: string;
  readonly principal: string | undefined;
  readonly executor: string | undefined;
  readonly state: string | undefined;
  /** Since the hub received it. */
  readonly ageMs: number | undefined;
  /** Since its executor got it; undefined while it waits. */
  readonly runningMs: number | undefined;
  readonly traceId: string | undefined;
  readonly raw: Fields;
}

/** How many calls run that the answer does not list. */
export function notListed(result: unknown): number {
  return numberOf(fieldsOf(result).more) ?? 0;
}

export function runningCallsOf(result: unknown, now: number): readonly RunningCall[] {
  const items = Array.isArray(result) ? result.filter((item) => isFields(item)) : listOf(fieldsOf(result).calls);
  return items.map((item, index) => runningCallOf(item, index, now));
}

export function runningCallOf(item: Fields, index: number, now: number): RunningCall {
  const started = numberOf(item.started_at);
  const connection = numberOf(item.connection);
  const id = item.call ?? item.call_id ?? item.id ?? index;
  return {
    key: `${connection ?? ""} ${JSON.stringify(id)}`,
    method: textOf(item.method) ?? "?",
    principal: textOf(item.principal),
    executor: textOf(item.executor) ?? textOf(item.worker_id),
    state: textOf(item.state) ?? textOf(item.status),
    ageMs: numberOf(item.age_ms) ?? (started === undefined ? undefined : now - started),
    runningMs: numberOf(item.running_ms),
    traceId: textOf(item.trace_id),
    raw: item,
  };
}

/** What `system.cancel` needs of a row; undefined where the row does not have it. */
export function cancelParams(cancel: Method | undefined, call: RunningCall): Fields | undefined {
  if (cancel === undefined) {
    return undefined;
  }
  const params: Record<string, unknown> = {};
  for (const { name, required } of cancel.params) {
    const value = call.raw[name];
    if (value !== undefined) {
      params[name] = value;
    } else if (required) {
      return undefined;
    }
  }
  return params;
}
