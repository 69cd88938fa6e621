/**
 * One request: its message, its timer, its signal, and where its outcome goes.
 */
import { ERROR_CODES } from "./codes.js";
import { CancelledError, TimeoutError, type ProtocolError } from "./errors.js";
import type { Params, WireChunk, WireMetadata, WireRequest } from "./messages.js";
import type { CallOptions } from "./options.js";
import { checkTimeout, MAX_TIMER_MS } from "./timeouts.js";

/** Where the outcome of a request goes: exactly one of `resolve` and `reject` is called, once. */
export interface Sink {
  resolve(result: unknown): void;
  reject(error: unknown): void;
  /** Takes a chunk before the outcome; the error returned, if any, ends the request. */
  chunk(chunk: WireChunk): ProtocolError | undefined;
}

/** How much longer than the hub we wait: its answer to a passed deadline has to travel, too. */
const GRACE_MS = 2_000;

/**
 * The message of a request.
 *
 * @throws TypeError if `method`, `params` or `timeoutMs` cannot be sent.
 */
export function requestMessage(
  id: number,
  method: string,
  params: Params | undefined,
  options: CallOptions,
): WireRequest {
  checkMethod(method, params);
  return { jsonrpc: "2.0", id, method, params, metadata: wireMetadata(id, options) };
}

/** @throws TypeError: without a method a request would look like a reply, which nobody answers. */
export function checkMethod(method: unknown, params: unknown): void {
  if (typeof method !== "string") {
    throw new TypeError("method has to be a string");
  }
  if (params !== undefined && (typeof params !== "object" || params === null)) {
    throw new TypeError("params has to be an object or an array");
  }
}

function wireMetadata(id: number, options: CallOptions): WireMetadata | undefined {
  const metadata: WireMetadata = { ...options.metadata };
  if (options.timeoutMs !== undefined) {
    metadata.timeout_ms = Math.ceil(checkTimeout("timeoutMs", options.timeoutMs));
  }
  if (options.priority !== undefined) {
    metadata.priority = options.priority;
  }
  if (options.idempotencyKey !== undefined) {
    metadata.idempotency_key = options.idempotencyKey;
  }
  if (options.onProgress !== undefined) {
    // Ids are unique on a connection, so they can be the tokens as well.
    metadata.progress_token = id;
  }
  return Object.keys(metadata).length > 0 ? metadata : undefined;
}

/** The error of a call whose signal was aborted. */
export function abortedError(signal: AbortSignal, wasSent: boolean): CancelledError {
  return new CancelledError({
    code: ERROR_CODES.CANCELLED,
    message: "the call was aborted by its signal",
    maybeExecuted: wasSent,
    cause: signal.reason,
  });
}

/** A request that was sent and is not settled. */
export class Request {
  readonly id: number;
  readonly sink: Sink;
  readonly #options: CallOptions;
  readonly #giveUp: (error: unknown) => void;
  #timer: ReturnType<typeof setTimeout> | undefined;

  /** `giveUp` ends the request early: cancels it at the hub and rejects it. */
  constructor(id: number, sink: Sink, options: CallOptions, giveUp: (error: unknown) => void) {
    this.id = id;
    this.sink = sink;
    this.#options = options;
    this.#giveUp = giveUp;
  }

  /** Starts to look after signal and deadline. */
  watch(): void {
    this.#options.signal?.addEventListener("abort", this.#onAbort);
    this.#startTimer();
  }

  /** Stops what `watch` started. */
  unwatch(): void {
    this.#options.signal?.removeEventListener("abort", this.#onAbort);
    clearTimeout(this.#timer);
  }

  /** Takes a chunk, and gives a stream's deadline a fresh start: that one limits silence. */
  chunk(chunk: WireChunk): void {
    const fault = this.sink.chunk(chunk);
    if (fault === undefined) {
      clearTimeout(this.#timer);
      this.#startTimer();
    } else {
      this.#giveUp(fault);
    }
  }

  /** Passes a progress value on. An exception of the caller's function is the caller's outcome. */
  progress(value: unknown): void {
    try {
      this.#options.onProgress?.(value);
    } catch (error) {
      this.#giveUp(error);
    }
  }

  readonly #onAbort = (): void => {
    const { signal } = this.#options;
    if (signal !== undefined) {
      this.#giveUp(abortedError(signal, true));
    }
  };

  #startTimer(): void {
    const { timeoutMs } = this.#options;
    if (timeoutMs === undefined) {
      return;
    }
    const limit = Math.min(timeoutMs + GRACE_MS, MAX_TIMER_MS);
    this.#timer = setTimeout(() => {
      this.#giveUp(silenceError(limit));
    }, limit);
  }
}

function silenceError(limitMs: number): TimeoutError {
  return new TimeoutError({
    code: ERROR_CODES.COMMUNICATION_TIMEOUT,
    message: `the hub did not answer within ${limitMs} ms, which is the deadline and ${GRACE_MS} ms of grace`,
    data: { type: "COMMUNICATION_TIMEOUT", recovery: "retry", retryable: true, maybe_executed: true },
  });
}
