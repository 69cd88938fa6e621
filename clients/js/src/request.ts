/**
 * One request: its message, its timer, its signal, what feeds it, and where its outcome goes.
 */
import { onAbort } from "./aborts.js";
import type { Codec, Packed } from "./codec.js";
import { CANCELLED, COMMUNICATION_TIMEOUT } from "./codes.js";
import { attributed, CancelledError, NoConnectionError, TimeoutError, type ProtocolError, type UsageError } from "./errors.js";
import { Feed } from "./input.js";
import { checkKnown } from "./known.js";
import type { WireChunk, WireMetadata } from "./messages.js";
import type { AttemptOptions } from "./retrier.js";
import type { StreamOptions } from "./options.js";
import type { Frame } from "./outbox.js";
import { checkPositive, MAX_TIMER_MS } from "./timeouts.js";

/** Where the outcome of a request goes: one of `resolve` and `reject` is called, or `reject` with what `resolve` returned. */
export interface Sink {
  resolve(result: unknown): ProtocolError | UsageError | undefined;
  reject(error: unknown): void;
  /** Takes a chunk before the outcome; the error returned, if any, ends the request. */
  chunk?(chunk: WireChunk): ProtocolError | UsageError | undefined;
}

/** How much longer than the hub we wait: its answer to a passed deadline has to travel, too. */
const GRACE_MS = 2_000;

/** How long a call without a deadline of its own waits for a connection: as long as the hub lets one run. */
const NO_CONNECTION_MS = 30_000;

/** Calls that concern one connection: after a cut neither they nor their replies are of use to the next one. */
const UNNUMBERED = /^(?:auth|rpc\.ping|(?:un)?subscribe|session\..*)$/u;

/** What is called with what, encoded once however often it is sent. */
export interface Call {
  readonly method: string;
  /** The frame of `{method, params}`. */
  readonly body: Packed;
  readonly codec: Codec;
}

/** What {@link StreamOptions} may have. */
const WINDOW = new Set(["items", "bytes"]);
const KNOWN = new Set("signal timeoutMs priority idempotencyKey idempotent retry input metadata onProgress window".split(" "));

/**
 * @throws TypeError if `method` or `params` cannot be sent (without a method it would look like a reply), or if there is an
 * option that is none.
 */
export function callOf(codec: Codec, method: string, params: object | undefined, options: object = {}): Call {
  checkKnown(options, KNOWN);
  checkKnown((options as StreamOptions).window ?? {}, WINDOW);
  if (typeof method !== "string") {
    throw new TypeError("method has to be a string");
  }
  if (params !== undefined && (typeof params !== "object" || params === null)) {
    throw new TypeError("params has to be an object or an array");
  }
  return { method, body: codec.encode({ method, params }), codec };
}

/** The error of a call whose signal was aborted. */
export function abortedError({ reason }: AbortSignal, wasSent: boolean): CancelledError {
  return cancelledError("aborted", wasSent, reason);
}

/** The error of a stream whose reader had enough. */
export function leftError(wasSent: boolean): CancelledError {
  return cancelledError("left by its reader", wasSent);
}

function cancelledError(message: string, maybeExecuted: boolean, cause?: unknown): CancelledError {
  return new CancelledError({ code: CANCELLED, message, maybeExecuted, cause });
}

/** What a request asks of whoever sends it. */
export interface Host {
  /** Ends it early. */
  giveUp(request: Request, error: unknown): void;
  /** Sends a message that is part of it; how long its frame is. */
  push(message: object): number;
  /** Why there is no connection. */
  whyNot(): Error | undefined;
}

/** A request that is not settled. */
export class Request implements Frame {
  id: number;
  readonly method: string;
  readonly sink: Sink;
  /** Whether another hub may have it: not if this one has its idempotency key, and may have run it. */
  readonly isLasting: boolean;
  /** Whether it was sent. */
  isWritten = false;
  readonly feed: Feed | undefined;
  readonly #options: AttemptOptions;
  readonly #host: Host;
  readonly #begun = performance.now();
  /** How long it waits for a connection where it has no deadline. */
  #waitUntil = this.#begun + NO_CONNECTION_MS;
  /** The longest wait from now on, in milliseconds. */
  #limitMs: number | undefined;
  readonly #call: Call;
  packed: Packed;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #unwatch: (() => void) | undefined;
  #later: ReturnType<typeof setTimeout> | undefined;
  /** Why the hub could not take it yet, when it was last put to it. */
  #refusal: string | undefined;

  /** @throws TypeError if an option cannot be sent. */
  constructor(id: number, call: Call, options: AttemptOptions, sink: Sink, host: Host) {
    this.id = id;
    this.method = call.method;
    this.#call = call;
    this.sink = sink;
    this.#options = options;
    this.#host = host;
    this.#limitMs = options.timeoutMs;
    this.isLasting = options.isForOneHub !== true;
    this.packed = this.#pack(wireMetadata(id, options));
    if (options.input !== undefined) {
      const push = (message: object): number => {
        this.keepAlive();
        return host.push(message);
      };
      this.feed = new Feed(options.input, id, push);
    }
  }

  #pack(metadata: WireMetadata): Packed {
    const { body, codec } = this.#call;
    const hasNone = Object.keys(metadata).length === 0;
    return codec.join({ jsonrpc: "2.0", id: this.id, metadata: hasNone ? undefined : metadata }, body);
  }

  get isNumbered(): boolean {
    return !UNNUMBERED.test(this.method);
  }

  /** Starts to look after signal and deadline. */
  watch(): void {
    this.#unwatch = onAbort(this.#options.signal, this.#onAbort);
    this.keepAlive();
  }

  /** Stops what `watch` started, and the input. */
  unwatch(): void {
    this.#unwatch?.();
    clearTimeout(this.#timer);
    clearTimeout(this.#later);
    void this.feed?.stop();
  }

  /** Calls `act` after a while, unless it is settled by then. */
  after(delayMs: number, act: () => void): void {
    this.#later = setTimeout(act, delayMs);
  }

  /** Whether it may be put to the next hub when this one takes nothing new, and to this one when that takes it. */
  get mayWait(): boolean {
    return this.isLasting && this.#options.mayWait === true;
  }

  /** It was refused unread (`why`), and waits until it can be sent again, or that happens now: `isWritten`. */
  late(isWritten: boolean, why?: string): void {
    this.#refusal = why;
    const { timeoutMs, window, input } = this.#options;
    if (this.isWritten && performance.now() > this.#waitUntil) {
      this.#waitUntil = performance.now() + NO_CONNECTION_MS;
    }
    this.isWritten = isWritten;
    // The time it waited is no more for the hub to use, unless it is silence that is limited.
    if (timeoutMs !== undefined && window === undefined && input === undefined) {
      this.#limitMs = Math.max(1, Math.ceil(this.#begun + timeoutMs - performance.now()));
      // As it was sent: what the caller gave may be another object by now.
      const { metadata } = this.#call.codec.parse(this.packed) as { metadata: WireMetadata };
      this.packed = this.#pack({ ...metadata, timeout_ms: this.#limitMs });
    }
    this.keepAlive();
  }

  /** It is sent now. */
  onWrite(isLate: boolean): void {
    this.isWritten = true;
    this.#options.onSent?.();
    if (isLate) {
      this.late(true);
    }
    void this.feed?.run((error) => {
      this.#giveUp(error);
    });
  }

  refused(error: unknown): void {
    this.#giveUp(error);
  }

  resolve(result: unknown): void {
    const fault = this.sink.resolve(result);
    if (fault !== undefined) {
      this.reject(fault);
    }
  }

  reject(error: unknown): void {
    this.sink.reject(attributed(error, this.method, this.id));
  }

  /** Gives the deadline a fresh start, where it limits silence. */
  keepAlive(): void {
    clearTimeout(this.#timer);
    const wantedMs = this.#limitMs ?? (this.isWritten ? undefined : Math.max(1, this.#waitUntil - performance.now()));
    if (wantedMs !== undefined) {
      const limitMs = Math.min(wantedMs + (this.isWritten ? GRACE_MS : 0), MAX_TIMER_MS);
      this.#timer = setTimeout(() => {
        this.#giveUp(this.#timeoutError(limitMs));
      }, limitMs);
    }
  }

  /** Takes a chunk, and gives a stream's deadline a fresh start: that one limits silence. */
  chunk(chunk: WireChunk): void {
    const fault = this.sink.chunk?.(chunk);
    if (fault === undefined) {
      this.keepAlive();
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

  #timeoutError(limitMs: number): TimeoutError {
    const wasSent = this.isWritten;
    const cause = this.#refusal === undefined ? this.#host.whyNot() : undefined;
    const what = wasSent ? "no answer" : this.#refusal === undefined ? "no connection" : "not taken";
    const why = this.#refusal ?? cause?.message;
    return new (wasSent ? TimeoutError : NoConnectionError)({
      code: COMMUNICATION_TIMEOUT,
      message: `${what} within ${Math.round(limitMs)} ms${why === undefined ? "" : `: ${why}`}`,
      cause,
      data: { type: "COMMUNICATION_TIMEOUT", recovery: "retry", retryable: true, maybe_executed: wasSent },
    });
  }

  #giveUp(error: unknown): void {
    this.#host.giveUp(this, error);
  }

  readonly #onAbort = (): void => {
    const { signal } = this.#options;
    if (signal !== undefined) {
      this.#giveUp(abortedError(signal, this.isWritten));
    }
  };
}

function wireMetadata(id: number, options: AttemptOptions): WireMetadata {
  const { metadata, timeoutMs, priority, idempotencyKey, idempotencyEpoch, onProgress, window } = options;
  const own = {
    priority,
    idempotency_key: idempotencyKey,
    idempotency_epoch: idempotencyEpoch,
    // Ids are unique on a connection, so they can be the tokens as well.
    progress_token: onProgress && id,
    window,
    timeout_ms: timeoutMs === undefined ? undefined : Math.ceil(checkPositive("timeoutMs", timeoutMs)),
  };
  const wire: WireMetadata = { ...metadata };
  for (const [name, value] of Object.entries(own)) {
    if (value !== undefined) {
      wire[name] = value;
    }
  }
  return wire;
}
