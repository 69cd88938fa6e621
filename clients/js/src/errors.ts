/**
 * Every error a caller can meet, told apart by `kind` (or `name`).
 *
 * All of them say whether the work may have been executed: `maybeExecuted`.
 */
import { CANCELLED, COMMUNICATION_TIMEOUT, errorNameOf, RATE_LIMITED, WORKER_OVERLOADED, WORKER_UNAVAILABLE, type ErrorName } from "./codes.js";
import type { Recovery, SessionEnd, WireError } from "./messages.js";

/** Which error it is. */
export type ErrorKind = RpcErrorKind | "disconnected" | "connect" | "protocol" | "usage";

/** Which of the errors the hub answers with. */
export type RpcErrorKind = "rpc" | "timeout" | "overloaded" | "cancelled";

/** What all errors of this package have in common. */
export abstract class TrunklineError extends Error {
  abstract override readonly name: string;
  abstract readonly kind: ErrorKind;
  /** Whether the method may have run, in whole or in part. `false` only if it certainly did not. */
  readonly maybeExecuted: boolean;
  /** The method of the call that failed. */
  declare readonly method: string | undefined;
  /** The `id` of its request on the wire, as the hub's log and its audit have it. */
  declare readonly requestId: number | undefined;

  constructor(message: string, maybeExecuted: boolean, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.maybeExecuted = maybeExecuted;
  }

  /** All members, for logs: of an `Error` JSON takes none by itself. */
  toJSON(): Readonly<Record<string, unknown>> {
    return { ...(this as object), message: this.message };
  }
}

/** Says of an error which call it ended. */
export function attributed(error: unknown, method: string, requestId: number): unknown {
  if (error instanceof TrunklineError) {
    Object.assign(error, { method, requestId });
  }
  return error;
}

/** Has an error say who waits for it: where V8 makes a stack in an `async` function, it adds those that await it. */
export function located(error: unknown): unknown {
  if (error instanceof TrunklineError) {
    (Error as { captureStackTrace?: (error: object, above: object) => void }).captureStackTrace?.(error, located);
  }
  return error;
}

/** What an {@link RpcError} is made of. */
export interface RpcErrorInit {
  readonly code: number;
  readonly message: string;
  readonly data?: unknown;
  /** Used where `data` does not say (`data.maybe_executed`). */
  readonly maybeExecuted?: boolean;
  readonly cause?: unknown;
}

/** The hub answered with an error. */
export class RpcError extends TrunklineError {
  override readonly name: "RpcError" | "TimeoutError" | "OverloadedError" | "CancelledError" = "RpcError";
  override readonly kind: RpcErrorKind = "rpc";
  /** The number on the wire; see {@link ERROR_CODES}. */
  readonly code: number;
  /** The code's name, as the hub says it; `"APPLICATION_ERROR"` for one that {@link ERROR_CODES} does not have. */
  readonly errorName: ErrorName;
  /** `error.data` as it came, for members this class does not know (`trace_id`, `chunks`, ...). */
  readonly data: unknown;
  /** Whether the same call may succeed later. Whether that is safe is another question: `maybeExecuted`. */
  readonly retryable: boolean;
  /** What the hub advises; `undefined` if a plain JSON-RPC server did not say. */
  readonly recovery: Recovery | undefined;
  /** How long to wait before trying again, in milliseconds, if the hub gave a hint. */
  readonly retryAfterMs: number | undefined;

  constructor(init: RpcErrorInit) {
    const data = isFields(init.data) ? init.data : {};
    const said = data.maybe_executed;
    // Without a word from the hub assume the worst, except for codes that mean "refused unread".
    const maybeExecuted = typeof said === "boolean" ? said : (init.maybeExecuted ?? !isRefusal(init.code));
    super(init.message, maybeExecuted, init.cause);
    this.code = init.code;
    this.errorName = typeof data.type === "string" ? data.type : errorNameOf(init.code);
    this.data = init.data;
    this.retryable = data.retryable === true;
    this.recovery = isRecovery(data.recovery) ? data.recovery : undefined;
    const retryAfterMs = data.retry_after_ms;
    this.retryAfterMs = typeof retryAfterMs === "number" ? retryAfterMs : undefined;
  }
}

/** The deadline passed (1002): the hub says so, or the hub itself was silent for too long. */
export class TimeoutError extends RpcError {
  override readonly name = "TimeoutError";
  override readonly kind = "timeout";
}

/** The same before the call could be sent at all: nobody waits once more. */
export class NoConnectionError extends TimeoutError {}

/** Too much at once (2002, 6003); `retryAfterMs` is the hub's hint. */
export class OverloadedError extends RpcError {
  override readonly name = "OverloadedError";
  override readonly kind = "overloaded";
}

/** The call was cancelled (-32800): by its signal (then `cause` is the signal's reason) or by others. */
export class CancelledError extends RpcError {
  override readonly name = "CancelledError";
  override readonly kind = "cancelled";
}

/**
 * The connection ended, and with it what was asked on it: it was closed for good, or its session could not go on.
 * `maybeExecuted` is true for calls that were sent, false for calls that were not, and for subscriptions.
 */
export class DisconnectedError extends TrunklineError {
  override readonly name = "DisconnectedError";
  override readonly kind = "disconnected";
  /** The WebSocket close code; 1006 means the connection was cut. 4500 to 4999 mean "do not reconnect". */
  readonly code: number;
  /** The reason the closing side gave, or "". */
  readonly reason: string;
  /** Why the hub did not go on with the session, if it said so. */
  readonly sessionEnd: SessionEnd | undefined;

  constructor(
    close: { readonly code: number; readonly reason: string },
    maybeExecuted: boolean,
    fate = maybeExecuted ? "it may have been executed" : "it was not sent",
    sessionEnd?: SessionEnd,
  ) {
    const reason = close.reason === "" ? "" : `: ${close.reason}`;
    super(`disconnected (close ${close.code}${reason}); ${fate}`, maybeExecuted);
    this.code = close.code;
    this.reason = close.reason;
    this.sessionEnd = sessionEnd;
  }
}

/** What is known of a connection that did not come about. */
export interface Refusal {
  /** Status of the HTTP answer, where the platform tells. */
  readonly status?: number | undefined;
  /** The hub's own error. */
  readonly error?: WireError | undefined;
  readonly cause?: unknown;
  /** Whether no attempt can succeed: an address that is none, no WebSocket to use. */
  readonly isHopeless?: boolean;
}

/** No first connection came about: refused, unreachable, no WebSocket to use, or too slow. */
export class ConnectError extends TrunklineError {
  override readonly name = "ConnectError";
  override readonly kind = "connect";
  /** Status of the HTTP answer; only the package `ws` tells it. */
  readonly status: number | undefined;
  /** The hub's error code: 6001 wrong token, 6002 origin or host not allowed, 2003 full; see {@link ERROR_CODES}. */
  readonly code: number | undefined;
  /** The code's name. */
  readonly errorName: ErrorName | undefined;
  /** `error.data` of the hub. */
  readonly data: unknown;
  /** Whether another attempt may succeed. */
  readonly retryable: boolean;
  /** When to make it at the earliest, in milliseconds, if the hub said so. */
  readonly retryAfterMs: number | undefined;
  /** Whether no attempt can succeed: an address that is none, no WebSocket to use. */
  readonly isHopeless: boolean;

  constructor(message: string, { status, error, cause, isHopeless = false }: Refusal = {}) {
    super(message, false, cause);
    const said = error === undefined ? undefined : new RpcError(error);
    this.status = status;
    this.code = said?.code;
    this.errorName = said?.errorName;
    this.data = said?.data;
    this.isHopeless = isHopeless;
    this.retryable = said === undefined ? !isHopeless && status !== 401 && status !== 403 : said.retryable;
    this.retryAfterMs = said?.retryAfterMs;
  }
}

/** Thrown by a `token` function: there is none to be had, so that no attempt to connect follows. */
export class AuthenticationError extends Error {
  override readonly name = "AuthenticationError";
}

/** The call does not fit the method: a stream that was called, or a method that was streamed but is none. */
export class UsageError extends TrunklineError {
  override readonly name = "UsageError";
  override readonly kind = "usage";
  /** What the method returned that is no stream. */
  readonly result: unknown;

  constructor(message: string, result?: unknown) {
    super(message, true);
    this.result = result;
  }
}

/** The hub broke the protocol for this call: a gap in a stream, or a reply that says nothing. */
export class ProtocolError extends TrunklineError {
  override readonly name = "ProtocolError";
  override readonly kind = "protocol";

  constructor(message: string) {
    super(message, true);
  }
}

/** Every error of this package, as a union that narrows by `kind` or `name`. */
export type HubError =
  | (RpcError & { readonly kind: "rpc"; readonly name: "RpcError" })
  | TimeoutError
  | OverloadedError
  | CancelledError
  | DisconnectedError
  | ConnectError
  | ProtocolError
  | UsageError;

/** Whether something caught is an error of this package. */
export function isHubError(value: unknown): value is HubError {
  return value instanceof TrunklineError;
}

/** The typed error for an error object of the wire. */
export function errorFromWire(error: WireError): RpcError {
  switch (error.code) {
    case COMMUNICATION_TIMEOUT:
      return new TimeoutError(error);
    case WORKER_OVERLOADED:
    case RATE_LIMITED:
      return new OverloadedError(error);
    case CANCELLED:
      return new CancelledError(error);
    default:
      return new RpcError(error);
  }
}

/** Whether the hub is stopping, and refused the call unread. */
export function isDraining({ data }: WireError): boolean {
  return isFields(data) && data.draining === true && data.maybe_executed === false;
}

/**
 * When to ask again what was refused unread for the moment (executors that start), in milliseconds; undefined for others, a
 * circuit breaker that is open among them.
 */
export function putOffMs({ code, data }: WireError): number | undefined {
  const isPutOff = code === WORKER_UNAVAILABLE && isFields(data) && data.maybe_executed === false && data.breaker === undefined;
  return isPutOff && typeof data.retry_after_ms === "number" ? data.retry_after_ms : undefined;
}

/** Whether the hub cannot say yet what became of a session. */
export function isNotNow({ code }: WireError): boolean {
  return code === WORKER_UNAVAILABLE;
}

/** Codes that JSON-RPC answers before a method is entered: -32700 and -32600 to -32602. */
function isRefusal(code: number): boolean {
  return code === -32700 || (code <= -32600 && code >= -32602);
}

const RECOVERIES: readonly unknown[] = ["retry", "fallback", "restart_process", "fatal"] satisfies Recovery[];

function isRecovery(value: unknown): value is Recovery {
  return RECOVERIES.includes(value);
}

function isFields(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null;
}
