/**
 * What callers may set. Every option may also be `undefined`, which means "not set".
 */
import type { Gap, Position, Priority } from "./messages.js";
import type { WebSocketConstructor } from "./socket.js";

/** Options of {@link connect}. */
export interface ConnectOptions {
  /**
   * Bearer token. Sent as the `Authorization` header with the package `ws`, and as the subprotocol
   * `trunkline.bearer.<base64url>` where the platform lets nobody set headers (browsers, Node's own).
   */
  readonly token?: string | undefined;
  /** How long the handshake may take, in milliseconds. Default 10000. */
  readonly connectTimeoutMs?: number | undefined;
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
   * Deadline, in milliseconds (fractions are rounded up): for a call until its reply, for a stream the longest
   * silence between two chunks. Without it the hub's own applies (30 s, streams 60 s, or the method's).
   */
  readonly timeoutMs?: number | undefined;
  /** Scheduling class. Default `"normal"`. */
  readonly priority?: Priority | undefined;
  /**
   * Makes the call safe to repeat: the hub stores the first outcome under this key and answers repetitions with
   * it. The same key with another method or other params is refused (-32602).
   */
  readonly idempotencyKey?: string | undefined;
  /** Further members of the request's `metadata`, for example `traceparent`. The options above win. */
  readonly metadata?: Readonly<Record<string, unknown>> | undefined;
  /**
   * Hears of the method's progress, with whatever value the method reports. If it throws, the call is cancelled
   * and rejects with what was thrown.
   */
  readonly onProgress?: ((value: unknown) => void) | undefined;
}

/** Options of a subscription. */
export interface SubscribeOptions {
  /**
   * Continue after this position: that of an earlier subscription to the same topic (`subscription.position`), or of
   * the last event dealt with. What the hub no longer has comes as a {@link Gap}. Patterns have no position.
   */
  readonly recover?: Position | undefined;
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
}
