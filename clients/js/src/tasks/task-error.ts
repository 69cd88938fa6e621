/**
 * How a task can fail: problem details of the hub (RFC 9457), or no answer at all.
 */
import { parse } from "../decode.js";
import type { ErrorName, Recovery } from "../index.js";

/** What an error is made of. */
export interface TaskErrorInit {
  readonly status: number;
  readonly message: string;
  readonly code?: number | undefined;
  readonly data?: Readonly<Record<string, unknown>> | undefined;
  readonly maybeExecuted: boolean;
  readonly retryable: boolean;
  readonly retryAfterMs?: number | undefined;
  readonly cause?: unknown;
}

/** A task failed. */
export class TaskError extends Error {
  override readonly name: "TaskError" | "TaskTimeoutError" | "TaskUnavailableError" | "TaskCancelledError" = "TaskError";
  /** The HTTP status; of errors that no answer told the one that fits. */
  readonly status: number;
  /** The hub's code; undefined where something else answered, or nothing. */
  readonly code: number | undefined;
  /** The code's name. */
  readonly errorName: ErrorName | undefined;
  /** `error.data` of the hub. */
  readonly data: Readonly<Record<string, unknown>>;
  /** Whether the method may have run. `false` only if it certainly did not. */
  readonly maybeExecuted: boolean;
  /** Whether the same task may succeed later. */
  readonly retryable: boolean;
  /** What the hub advises. */
  readonly recovery: Recovery | undefined;
  /** When to try again at the earliest, in milliseconds, if the hub said so. */
  readonly retryAfterMs: number | undefined;
  /** How often it was tried. */
  readonly attempts: number;

  constructor(init: TaskErrorInit, attempts: number) {
    super(init.message, init.cause === undefined ? undefined : { cause: init.cause });
    const { type, recovery } = init.data ?? {};
    this.status = init.status;
    this.code = init.code;
    this.errorName = typeof type === "string" ? type : undefined;
    this.data = init.data ?? {};
    this.maybeExecuted = init.maybeExecuted;
    this.retryable = init.retryable;
    this.recovery = isRecovery(recovery) ? recovery : undefined;
    this.retryAfterMs = init.retryAfterMs;
    this.attempts = attempts;
  }
}

/** The time was over: the hub says so (1002), or nothing came. `status` is 408, whatever HTTP has said. */
export class TaskTimeoutError extends TaskError {
  override readonly name = "TaskTimeoutError";
}

/** Nobody could run it: executors that start, a hub that stops, is full, or is not there. `status` is 503. */
export class TaskUnavailableError extends TaskError {
  override readonly name = "TaskUnavailableError";
}

/** `signal` was aborted; its reason is `cause`. */
export class TaskCancelledError extends TaskError {
  override readonly name = "TaskCancelledError";
}

export const TIMEOUT = 408;
export const UNAVAILABLE = 503;
/** What nginx, and the hub, say of a request that its client has given up. */
export const CANCELLED = 499;

/** The error of a kind that fits its status. */
export function taskError(init: TaskErrorInit, attempts: number): TaskError {
  switch (init.status) {
    case TIMEOUT:
      return new TaskTimeoutError(init, attempts);
    case UNAVAILABLE:
      return new TaskUnavailableError(init, attempts);
    case CANCELLED:
      return new TaskCancelledError(init, attempts);
    default:
      return new TaskError(init, attempts);
  }
}

const COMMUNICATION_TIMEOUT = 1002;

/** What an answer says that is no result. */
export function failureOf(response: Response, text: string): TaskErrorInit {
  const { error } = fields(parsed(text));
  const { code, message, data } = fields(error);
  const retryAfterMs = seconds(response.headers.get("Retry-After"));
  if (typeof code !== "number") {
    // Not the hub's own words: something before it. What it did not pass on did not run.
    const { status } = response;
    const isRefusal = status === 429 || status === UNAVAILABLE;
    const words = `HTTP ${status} without an error of the hub's`;
    return { status, message: words, maybeExecuted: !isRefusal, retryable: isRefusal || status === 502 || status === 504, retryAfterMs };
  }
  const said = fields(data);
  return {
    status: code === COMMUNICATION_TIMEOUT ? TIMEOUT : response.status,
    message: typeof message === "string" ? message : "",
    code,
    data: said,
    maybeExecuted: said.maybe_executed !== false,
    retryable: said.retryable === true,
    retryAfterMs: typeof said.retry_after_ms === "number" ? said.retry_after_ms : retryAfterMs,
  };
}

/** The value of some JSON, bytes as `Uint8Array`; undefined for what is none. */
export function parsed(text: string): unknown {
  try {
    return parse(text);
  } catch {
    return undefined;
  }
}

function fields(value: unknown): Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null ? (value as Readonly<Record<string, unknown>>) : {};
}

/** Milliseconds of a Retry-After in seconds, or as a date. */
function seconds(header: string | null): number | undefined {
  if (header === null) {
    return undefined;
  }
  const ms = /^\d+$/u.test(header) ? Number(header) * 1000 : Date.parse(header) - Date.now();
  return Number.isNaN(ms) ? undefined : Math.max(0, ms);
}

const RECOVERIES: readonly unknown[] = ["retry", "fallback", "restart_process", "fatal"] satisfies Recovery[];

function isRecovery(value: unknown): value is Recovery {
  return RECOVERIES.includes(value);
}
