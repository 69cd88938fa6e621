/**
 * What callers may set. Every option may also be `undefined`, which means "not set".
 */
import type { Codec } from "./codec.js";
import type { Input } from "./input.js";
import type { DefaultMetadata, Interceptor } from "./intercepting.js";
import type { Gap, Position, Priority, Window } from "./messages.js";
import type { WebSocketConstructor } from "./socket.js";

/** When failed calls are made again: after a random part of `baseDelayMs * factor ** n`, and not before the hub's hint. */
export interface RetryPolicy {
  /** How often a call is made at most, the first time included. */
  readonly attempts: number;
  /** Upper end of the first delay, in milliseconds. */
  readonly baseDelayMs: number;
  /** By what the next one grows. */
  readonly factor: number;
}

/**
 * How long to wait before connecting again: a random part of the time there was no connection so far, counted as
 * `minDelayMs` at least and `maxDelayMs` at most. So clients of a hub that was away for two seconds are back within four.
 */
export interface ReconnectPolicy {
  /** Default 500. */
  readonly minDelayMs?: number | undefined;
  /** Default 20000. */
  readonly maxDelayMs?: number | undefined;
}

/** Options of {@link connect}. */
export interface ConnectOptions {
  /**
   * Bearer token, or a function that gives one; it is asked before every attempt to connect. Sent as the `Authorization`
   * header with the package `ws`, and as the subprotocol `trunkline.bearer.<base64url>` where the platform lets nobody
   * set headers (browsers, Node's own). A string that the hub refuses ends the client; a function is asked again, until it
   * throws an {@link AuthenticationError}. `undefined` is no token.
   */
  readonly token?: string | (() => string | undefined | Promise<string | undefined>) | undefined;
  /**
   * How long to go on trying, in milliseconds, while there is no hub yet; `Infinity` for ever. Default 0: the first attempt
   * decides. What refuses this client for good (a wrong token, an origin that is not allowed) ends it at once.
   */
  readonly waitMs?: number | undefined;
  /** Aborting it before the connection is there ends the attempt with a `CancelledError`. */
  readonly signal?: AbortSignal | undefined;
  /** How long an attempt may take, in milliseconds: token, handshake, session. Default 10000. */
  readonly connectTimeoutMs?: number | undefined;
  /** Whether calls and streams survive a cut. Default true. A hub that has no sessions is used without one. */
  readonly session?: boolean | undefined;
  /** Whether, and how soon, to connect again after a cut. Default true. */
  readonly reconnect?: boolean | ReconnectPolicy | undefined;
  /**
   * Which calls are made again when they fail: those that may be, see {@link CallOptions.retry}. Default
   * `{attempts: 3, baseDelayMs: 1000, factor: 2}`.
   */
  readonly retry?: Partial<RetryPolicy> | false | undefined;
  /** Metadata of all calls and streams, beside their own; a function is asked for each: `() => ({ traceparent })`. */
  readonly metadata?: DefaultMetadata | undefined;
  /** Deadline of calls that have none of their own, in milliseconds; not for streams. */
  readonly timeoutMs?: number | undefined;
  /** Functions around every call and stream, the first one outermost: for logs, measurements, tokens in params. */
  readonly interceptors?: readonly Interceptor[] | undefined;
  /** How many messages may wait while there is no connection; what comes then is refused. Default 1000. */
  readonly maxQueued?: number | undefined;
  /** How long they may be together, in characters of JSON, or bytes of MessagePack. Default 8 MiB. */
  readonly maxQueuedBytes?: number | undefined;
  /** After so much silence the hub is asked whether it is there, in milliseconds. Default 30000. */
  readonly pingIntervalMs?: number | undefined;
  /** How long it may then say nothing before the connection counts as cut, in milliseconds. Default 10000. */
  readonly pingTimeoutMs?: number | undefined;
  /** What messages are sent as: `msgpack` of `trunkline/msgpack`. Default: JSON. */
  readonly codec?: Codec | undefined;
  /** Further headers of the upgrade, for a proxy. Needs the package `ws`; browsers let nobody set any. */
  readonly headers?: Readonly<Record<string, string>> | undefined;
  /**
   * Further options of `ws`: `agent` (for proxies), `ca`, `cert`, `key`, `rejectUnauthorized`, `perMessageDeflate`, ...; not
   * in browsers.
   */
  readonly socketOptions?: Readonly<Record<string, unknown>> | undefined;
  /** A WebSocket class to use instead of the platform's. */
  readonly WebSocket?: WebSocketConstructor | undefined;
  /**
   * Hears of what this client cannot attribute to a call: messages that make no sense, replies to nothing,
   * chunks nobody reads. For logs; the connection goes on. Default: ignored.
   */
  readonly onWarning?: ((message: string) => void) | undefined;
}

/** Options of a call or a stream. */
export interface CallOptions {
  /** Aborting it cancels the call at the hub and rejects it at once with a `CancelledError`. */
  readonly signal?: AbortSignal | undefined;
  /**
   * Deadline, in milliseconds (fractions are rounded up): for a call until its reply, all attempts and waiting for a
   * connection included; for a stream, or with `input`, the longest silence. Without it the hub's own applies (30 s,
   * streams 60 s, or the method's), and 30 s to the wait for a connection.
   */
  readonly timeoutMs?: number | undefined;
  /** Scheduling class. Default `"normal"`. */
  readonly priority?: Priority | undefined;
  /**
   * Makes the call safe to repeat: the hub stores the first outcome under this key and answers repetitions with
   * it. The same key with another method or other params is refused (-32602).
   */
  readonly idempotencyKey?: string | undefined;
  /** Says that running the method twice does no harm, so that the call may be made again whatever happened to it. */
  readonly idempotent?: boolean | undefined;
  /**
   * When the call is made again if it fails with a `retryable` error or its session is lost, and surely was not executed,
   * is `idempotent`, or has an `idempotencyKey` (which only the hub that knew it takes). Not for streams, nor with `input`. Default: that of
   * {@link ConnectOptions.retry}. What a hub refuses because it is stopping, streams included, waits for the next
   * connection and is no attempt, unless this is `false`.
   */
  readonly retry?: Partial<RetryPolicy> | false | undefined;
  /**
   * What to feed to the method while it runs: sent item by item, never more than 64 items or 256 KiB ahead of what the
   * method has taken. If it throws, the call is cancelled and rejects with what was thrown; if the call ends first, its
   * `return()` is called.
   */
  readonly input?: Input | undefined;
  /** Further members of the request's `metadata`, for example `traceparent`. The options above win. */
  readonly metadata?: Readonly<Record<string, unknown>> | undefined;
  /**
   * Hears of the method's progress, with whatever value the method reports. If it throws, the call is cancelled
   * and rejects with what was thrown.
   */
  readonly onProgress?: ((value: unknown) => void) | undefined;
}

/** Options of a stream. */
export interface StreamOptions extends CallOptions {
  /** How far the method may run ahead of the reader. Default 64 chunks, 256 KiB. */
  readonly window?: Window | undefined;
}

/** A JSON Schema (2020-12) that is complete: its references lead to its own `$defs`, or to `#`. */
export type JsonSchema = Readonly<Record<string, unknown>>;

/** Options of a registration. */
export interface RegisterOptions {
  /** One line for `rpc.discover`. */
  readonly summary?: string | undefined;
  /** Whether the handler gives chunks: an async generator. Default false. */
  readonly streaming?: boolean | undefined;
  /** Whether a call may run again elsewhere when this client vanishes. Default false. */
  readonly idempotent?: boolean | undefined;
  /** How many calls the hub sends at once. Default 32. */
  readonly maxConcurrency?: number | undefined;
  /** Deadline of calls that do not bring their own, in milliseconds. */
  readonly timeoutMs?: number | undefined;
  /**
   * What the method takes, for `rpc.discover`, other documents and generated clients. Nobody checks params by it: `checked` of
   * `trunkline/schema` does, and tells its schemas by itself.
   */
  readonly paramsSchema?: JsonSchema | undefined;
  /** What it gives. */
  readonly resultSchema?: JsonSchema | undefined;
}

/** Options of a subscription. */
export interface SubscribeOptions {
  /**
   * Continue after this position: that of an earlier subscription to the same topic (`subscription.position`), or of
   * the last event dealt with. What the hub no longer has comes as a {@link Gap}. Not for patterns: these recover by themselves.
   */
  readonly recover?: Position | undefined;
  /** How many of the topic's latest events come first, as far as the hub keeps them. Not for patterns, nor with `recover`. */
  readonly history?: number | undefined;
  /**
   * Hears of every gap, just before the loop is given it. What it throws, the loop throws, and the subscription ends.
   */
  readonly onGap?: ((gap: Gap) => void) | undefined;
  /** Aborting it unsubscribes; the loop throws a `CancelledError` at once. */
  readonly signal?: AbortSignal | undefined;
  /**
   * How many messages may wait for the reader. Of more the oldest are dropped, and a {@link Gap} takes their place.
   * Default 1024.
   */
  readonly maxQueued?: number | undefined;
}

/** Options of {@link Hub.history}. */
export interface HistoryOptions {
  /** List what came after this position, as far as the hub keeps it, and not the latest. */
  readonly after?: Position | undefined;
  /** How many events, at most 1,000; an answer has a MiB of data at most, and says so (`more`). Default 100. */
  readonly limit?: number | undefined;
  /** Deadline, in milliseconds. Without it the hub's own applies. */
  readonly timeoutMs?: number | undefined;
  /** Aborting it rejects at once with a `CancelledError`. */
  readonly signal?: AbortSignal | undefined;
}

/** Options of a publication. */
export interface PublishOptions {
  /**
   * Makes it safe to repeat: the same key on the same topic within five minutes is the same event, and the position
   * of the first is answered again.
   */
  readonly idempotencyKey?: string | undefined;
  /** Deadline, in milliseconds (fractions are rounded up). Without it the hub's own applies. */
  readonly timeoutMs?: number | undefined;
  /** Aborting it rejects at once with a `CancelledError`; the event may have been published all the same. */
  readonly signal?: AbortSignal | undefined;
  /** As for calls: {@link CallOptions.retry}. */
  readonly retry?: Partial<RetryPolicy> | false | undefined;
}
