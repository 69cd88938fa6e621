/**
 * Every error a caller can meet, told apart by `kind` (or `name`).
 *
 * All of them say whether the work may have been executed: `maybeExecuted`.
 */
import { ERROR_CODES, errorNameOf, type ErrorName } from "./codes.js";
import type { Recovery, WireError } from "./messages.js";

/** Which error it is. */
export type ErrorKind = RpcErrorKind | "disconnected" | "connect" | "protocol";

/** Which of the errors the hub answers with. */
export type RpcErrorKind = "rpc" | "timeout" | "overloaded" | "cancelled";

/** What all errors of this package have in common. */
export abstract class TrunklineError extends Error {
  abstract override readonly name: string;
  abstract readonly kind: ErrorKind;
  /** Whether the method may have run, in whole or in part. `false` only if it certainly did not. */
  readonly maybeExecuted: boolean;

  constructor(message: string, maybeExecuted: boolean, options?: { readonly cause?: unknown }) {
    super(message, options);
    this.maybeExecuted = maybeExecuted;
  }
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
  /** The code's name in {@link ERROR_CODES}, else `"APPLICATION_ERROR"`. */
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
    const maybeExecuted = typeof said === "boolean" ? said : (init.maybeExecuted ?? !REFUSED.has(init.code));
    super(init.message, maybeExecuted, init.cause === undefined ? undefined : { cause: init.cause });
    this.code = init.code;
    this.errorName = errorNameOf(init.code);
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
 * The connection ended. `maybeExecuted` is true for calls that were sent, false for calls that were not, and for
 * subscriptions.
 */
export class DisconnectedError extends TrunklineError {
  override readonly name = "DisconnectedError";
  override readonly kind = "disconnected";
  /** The WebSocket close code; 1006 means the connection was cut. 4500 to 4999 mean "do not reconnect". */
  readonly code: number;
  /** The reason the closing side gave, or "". */
  readonly reason: string;

  constructor(
    close: { readonly code: number; readonly reason: string },
    maybeExecuted: boolean,
    fate = maybeExecuted ? "the call may have been executed" : "the call was not sent",
  ) {
    const reason = close.reason === "" ? "" : `: ${close.reason}`;
    super(`disconnected (close ${close.code}${reason}); ${fate}`, maybeExecuted);
    this.code = close.code;
    this.reason = close.reason;
  }
}

/** No connection came about: refused, unreachable, no WebSocket to use, or too slow. */
export class ConnectError extends TrunklineError {
  override readonly name = "ConnectError";
  override readonly kind = "connect";

  constructor(message: string, cause?: unknown) {
    super(message, false, cause === undefined ? undefined : { cause });
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
  | ProtocolError;

/** Whether something caught is an error of this package. */
export function isHubError(value: unknown): value is HubError {
  return value instanceof TrunklineError;
}

/** The typed error for an error object of the wire. */
export function errorFromWire(error: WireError): RpcError {
  switch (error.code) {
    case ERROR_CODES.COMMUNICATION_TIMEOUT:
      return new TimeoutError(error);
    case ERROR_CODES.WORKER_OVERLOADED:
    case ERROR_CODES.RATE_LIMITED:
      return new OverloadedError(error);
    case ERROR_CODES.CANCELLED:
      return new CancelledError(error);
    default:
      return new RpcError(error);
  }
}

/** Codes that JSON-RPC answers before a method is entered. */
const REFUSED = new Set<number>([
  ERROR_CODES.PARSE_ERROR,
  ERROR_CODES.INVALID_REQUEST,
  ERROR_CODES.METHOD_NOT_FOUND,
  ERROR_CODES.INVALID_PARAMS,
]);

const RECOVERIES: readonly unknown[] = ["retry", "fallback", "restart_process", "fatal"] satisfies Recovery[];

function isRecovery(value: unknown): value is Recovery {
  return RECOVERIES.includes(value);
}

function isFields(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null;
}
