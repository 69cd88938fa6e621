/**
 * Which failed calls are made again, and when. Pure.
 */
import { fullJitter } from "./backoff.js";
import { DisconnectedError, NoConnectionError, RpcError } from "./errors.js";
import type { RetryPolicy } from "./options.js";

/** What a caller said about a call. */
export interface Repeatable {
  /** Running it twice does no harm. */
  readonly isIdempotent: boolean;
  /** It has an idempotency key: the hub runs it once, as long as it is the same hub. */
  readonly hasKey: boolean;
  /** Another hub is told so by the epoch of the one that knows the key, and refuses. */
  readonly hasEpoch?: boolean;
}

/**
 * How long to wait before making a call again, in milliseconds; undefined if it must not be, or not any more.
 *
 * @param attempt how many were made, 1 or more.
 */
export function retryDelay(
  error: unknown,
  attempt: number,
  { attempts, baseDelayMs, factor }: RetryPolicy,
  call: Repeatable,
  random = Math.random,
): number | undefined {
  if (attempt >= attempts || !mayRepeat(error, call)) {
    return undefined;
  }
  const delayMs = fullJitter(attempt - 1, { minMs: baseDelayMs, factor }, random);
  return Math.max(delayMs, error instanceof RpcError ? (error.retryAfterMs ?? 0) : 0);
}

function mayRepeat(error: unknown, { isIdempotent, hasKey, hasEpoch = false }: Repeatable): boolean {
  if (error instanceof DisconnectedError) {
    // What was not sent waits by itself: if that failed, it is for good. The next hub may not be the one that knows the key.
    return error.maybeExecuted && (isIdempotent || (hasKey && hasEpoch));
  }
  return (
    error instanceof RpcError &&
    error.retryable &&
    error.kind !== "cancelled" &&
    !(error instanceof NoConnectionError) &&
    (!error.maybeExecuted || isIdempotent || (hasKey && isKeyKnown(error)))
  );
}

/** Not if the hub said that there is no outcome to be had under this key. */
function isKeyKnown({ data }: RpcError): boolean {
  return (data as { idempotency?: unknown } | undefined)?.idempotency === undefined;
}
