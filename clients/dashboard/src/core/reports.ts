/**
 * What the hub says of itself, read with care: a member that is missing (an older hub) is `undefined`, never a guess.
 */

import type { DetailedHealth, EndedCall as Ended, LastError, Memory, MethodHealth as Concern, Serving, WorkingExecutor } from "../hub/said.ts";

export type Fields = Readonly<Record<string, unknown>>;

/** What a hub of any version says for a `T`: members have the names that the hub's reports have, and any value or none. */
export type Told<T> = { readonly [K in keyof T]?: unknown };

/** A second of the whole hub; of the topic `system.metrics`. */
export interface Metrics {
  /** When the hub said it, on this page's clock, in milliseconds since 1970. */
  readonly at: number;
  readonly numbers: Readonly<Record<string, number>>;
}

/** One executor process. */
export interface Executor {
  readonly id: string;
  readonly status: string;
  readonly pid: number | undefined;
  readonly active: number | undefined;
  readonly requests: number | undefined;
  readonly errors: number | undefined;
  readonly restarts: number | undefined;
  /** Why it was started again, and how often. */
  readonly restartCauses: Readonly<Record<string, number>>;
  readonly lastFailure: string | undefined;
  /** 0 to 1, of all its calls. */
  readonly errorRate: number | undefined;
  readonly uptimeSeconds: number | undefined;
  readonly packs: number | undefined;
  readonly rssMb: number | undefined;
  readonly memoryPercent: number | undefined;
  readonly cpuPercent: number | undefined;
  /** Of routing keys: how many it owns, and how many of them move to another. */
  readonly slots: number | undefined;
  readonly slotsLeaving: number | undefined;
  readonly pingMs: number | undefined;
  /** What it runs, the oldest first; undefined where the hub does not say. */
  readonly running: readonly Fields[] | undefined;
  /** Members this page has no place for, as the hub sent them. */
  readonly more: Readonly<Record<string, string | number | boolean>>;
}

/** A call that has ended. */
export interface EndedCall {
  /** Counts what this page has received. */
  readonly number: number;
  readonly method: string;
  readonly principal: string | undefined;
  readonly connection: number | undefined;
  readonly outcome: string;
  readonly code: number | undefined;
  readonly durationMs: number | undefined;
  readonly queueMs: number | undefined;
  readonly runMs: number | undefined;
  readonly executor: string | undefined;
  readonly finishedAt: number | undefined;
  readonly message: string | undefined;
  readonly traceId: string | undefined;
  readonly requestId: string | undefined;
  /** What to ask the hub for its params by, where it failed and they are kept. */
  readonly failure: number | undefined;
  /** As the hub sent it, for copying. */
  readonly raw: Fields;
}

/** What `system.health` and `health.detailed` say of the whole. */
export interface Health {
  readonly status: string;
  /** When the status became what it is, in milliseconds since 1970. */
  readonly since: number | undefined;
  readonly causes: readonly string[];
  /** Methods that are not served, or fail. */
  readonly methods: readonly MethodHealth[];
  /** How many more of these are not listed. */
  readonly methodsMore: number;
}

/** A method that is not served, or fails. */
export interface MethodHealth {
  readonly name: string;
  readonly status: string;
  readonly since: number | undefined;
  readonly reason: string;
  /** What its last error says, or its kind, for who may not see the text. */
  readonly error: string | undefined;
}

export function isFields(value: unknown): value is Fields {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

export function fieldsOf(value: unknown): Fields {
  return isFields(value) ? value : {};
}

export function listOf(value: unknown): readonly Fields[] {
  return Array.isArray(value) ? value.filter((item) => isFields(item)) : [];
}

export function numberOf(value: unknown): number | undefined {
  return typeof value === "number" && Number.isFinite(value) ? value : undefined;
}

export function textOf(value: unknown): string | undefined {
  return typeof value === "string" && value !== "" ? value : undefined;
}

/**
 * Seconds of the past, from the `series` of `metrics.get`: the oldest first, under the names of `system.metrics`.
 */
export function pastOf(result: unknown, now: number): readonly Metrics[] {
  return listOf(fieldsOf(result).series).flatMap((item) => {
    const { calls, errors, seconds, seconds_ago: ago, ...others } = metricsOf(item, now).numbers;
    if (ago === undefined || seconds === undefined || seconds <= 0 || calls === undefined) {
      return [];
    }
    const rates = { calls_per_second: calls / seconds, errors_per_second: (errors ?? 0) / seconds };
    return [{ at: now - ago * 1_000, numbers: { ...others, ...rates } }];
  });
}

export function metricsOf(data: unknown, at: number): Metrics {
  const numbers: Record<string, number> = {};
  for (const [name, value] of Object.entries(fieldsOf(data))) {
    const number = numberOf(value);
    if (number !== undefined) {
      numbers[name] = number;
    }
  }
  return { at, numbers };
}

const EXECUTOR_PLACES = new Set([
  "worker_id",
  "status",
  "pid",
  "active_requests",
  "request_count",
  "error_count",
  "restarts",
  "last_failure",
  "memory_usage",
  "cpu_percent",
  "error_rate",
  "uptime_seconds",
  "pipelines_loaded",
  "slots",
  "slots_leaving",
  "latency_ms",
]);

export function executorOf(item: Told<WorkingExecutor>): Executor {
  const memory: Told<Memory> = fieldsOf(item.memory_usage);
  return {
    id: textOf(item.worker_id) ?? "?",
    status: textOf(item.status) ?? "unknown",
    pid: numberOf(item.pid),
    active: numberOf(item.active_requests),
    requests: numberOf(item.request_count),
    errors: numberOf(item.error_count),
    restarts: numberOf(item.restarts),
    restartCauses: metricsOf(item.restart_causes, 0).numbers,
    lastFailure: textOf(item.last_failure),
    errorRate: numberOf(item.error_rate),
    uptimeSeconds: numberOf(item.uptime_seconds),
    packs: numberOf(item.pipelines_loaded),
    rssMb: numberOf(memory.rss_mb),
    memoryPercent: numberOf(memory.percent),
    cpuPercent: numberOf(item.cpu_percent),
    slots: numberOf(item.slots),
    slotsLeaving: numberOf(item.slots_leaving),
    pingMs: numberOf(item.latency_ms),
    running: Array.isArray(item.running) ? listOf(item.running) : undefined,
    more: moreOf(item),
  };
}

function moreOf(item: Told<WorkingExecutor>): Executor["more"] {
  const more: Record<string, string | number | boolean> = {};
  for (const [name, value] of Object.entries(item)) {
    const plain = typeof value === "number" || typeof value === "boolean" || (typeof value === "string" && value !== "");
    if (plain && !EXECUTOR_PLACES.has(name)) {
      more[name] = value;
    }
  }
  return more;
}

export function executorsOf(data: unknown): readonly Executor[] {
  return listOf(fieldsOf(data).executors).map((item) => executorOf(item));
}

export function healthOf(data: unknown): Health {
  const fields: Told<Serving | DetailedHealth> = fieldsOf(data);
  const causes = Array.isArray(fields.causes) ? fields.causes.filter((cause) => typeof cause === "string") : [];
  return {
    status: textOf(fields.status) ?? "unknown",
    since: numberOf(fields.since),
    causes,
    methods: listOf(fields.methods).map((item) => methodHealthOf(item)),
    methodsMore: numberOf(fields.methods_more) ?? 0,
  };
}

function methodHealthOf(item: Told<Concern>): MethodHealth {
  const error: Told<LastError> = fieldsOf(item.last_error);
  return {
    name: textOf(item.method) ?? "?",
    status: textOf(item.status) ?? "unknown",
    since: numberOf(item.since),
    reason: textOf(item.reason) ?? "",
    error: textOf(error.message) ?? textOf(error.type),
  };
}

export function endedCallOf(item: Told<Ended>, number: number): EndedCall {
  return {
    number,
    method: textOf(item.method) ?? "?",
    principal: textOf(item.principal),
    connection: numberOf(item.connection),
    outcome: textOf(item.outcome) ?? "unknown",
    code: numberOf(item.code),
    durationMs: numberOf(item.duration_ms),
    queueMs: numberOf(item.queue_ms),
    runMs: numberOf(item.run_ms),
    executor: textOf(item.executor),
    finishedAt: numberOf(item.finished_at),
    message: textOf(item.message),
    traceId: textOf(item.trace_id),
    requestId: textOf(item.request_id),
    failure: numberOf(item.failure),
    raw: item,
  };
}
