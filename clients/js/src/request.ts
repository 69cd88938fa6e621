/**
 * One request: its message, its timer, its signal, what feeds it, and where its outcome goes.
 */
import { onAbort } from "./aborts.js";
import { CANCELLED, COMMUNICATION_TIMEOUT } from "./codes.js";
import { encode } from "./encode.js";
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
  /** JSON members: `"method":...,"params":...`. */
  readonly body: string;
}

/** What {@link StreamOptions} may have. */
const WINDOW = new Set(["items", "bytes"]);
const KNOWN = new Set("signal timeoutMs priority idempotencyKey idempotent retry input metadata onProgress window".split(" "));

/**
 * @throws TypeError if `method` or `params` cannot be sent (without a method it would look like a reply), or if there is an
 * option that is none.
 */
export function callOf(method: string, params: object | undefined, options: object = {}): Call {
  checkKnown(options, KNOWN);
  checkKnown((options as StreamOptions).window ?? {}, WINDOW);
  if (typeof method !== "string") {
    throw new TypeError("method has to be a string");
  }
  if (params !== undefined && (typeof params !== "object" || params === null)) {
    throw new TypeError("params has to be an object or an array");
  }
  return { method, body: encode({ method, params }).slice(1, -1) };
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
  /** Sends a frame that is part of it. */
  push(text: string): void;
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
  /** What follows the id. */
  #tail: string;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #unwatch: (() => void) | undefined;

  /** @throws TypeError if an option cannot be sent. */
  constructor(id: number, call: Call, options: AttemptOptions, sink: Sink, host: Host) {
    this.id = id;
    this.method = call.method;
    this.sink = sink;
    this.#options = options;
    this.#host = host;
    this.#limitMs = options.timeoutMs;
    this.isLasting = options.isForOneHub !== true;
    const metadata = wireMetadata(id, options);
    this.#tail = `${call.body}${Object.keys(metadata).length > 0 ? `,${encode({ metadata }).slice(1, -1)}` : ""}}`;
    if (options.input !== undefined) {
      const push = (text: string): void => {
        this.keepAlive();
        host.push(text);
      };
      this.feed = new Feed(options.input, id, push);
    }
  }

  get text(): string {
    return `{"jsonrpc":"2.0","id":${this.id},${this.#tail}`;
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
    void this.feed?.stop();
  }

  get isStream(): boolean {
    return this.#options.window !== undefined;
  }

  /** Whether it may be put to the next hub when this one takes nothing new. */
  get mayWait(): boolean {
    return this.isLasting && this.#options.mayWait === true;
  }

  /** It was refused unread, and waits for the next connection, or it is sent there: `isWritten`. */
  late(isWritten: boolean): void {
    const { timeoutMs, window, input } = this.#options;
    if (this.isWritten && performance.now() > this.#waitUntil) {
      this.#waitUntil = performance.now() + NO_CONNECTION_MS;
    }
    this.isWritten = isWritten;
    // The time it waited is no more for the hub to use, unless it is silence that is limited.
    if (timeoutMs !== undefined && window === undefined && input === undefined) {
      this.#limitMs = Math.max(1, Math.ceil(this.#begun + timeoutMs - performance.now()));
      // The last member: see wireMetadata.
      this.#tail = `${this.#tail.slice(0, this.#tail.lastIndexOf(":") + 1)}${this.#limitMs}}}`;
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
        this.#giveUp(timeoutError(limitMs, this.isWritten, this.#host.whyNot()));
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

/** The deadline comes last: `onWrite` counts on it. */
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
      delete wire[name];
      wire[name] = value;
    }
  }
  return wire;
}

function timeoutError(limitMs: number, wasSent: boolean, cause: Error | undefined): TimeoutError {
  return new (wasSent ? TimeoutError : NoConnectionError)({
    code: COMMUNICATION_TIMEOUT,
    message: `no ${wasSent ? "answer" : "connection"} within ${Math.round(limitMs)} ms${cause === undefined ? "" : `: ${cause.message}`}`,
    cause,
    data: { type: "COMMUNICATION_TIMEOUT", recovery: "retry", retryable: true, maybe_executed: wasSent },
  });
}
