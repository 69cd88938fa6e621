/**
 * What {@link connect} gives: the public face of a connection.
 */
/// <reference lib="esnext.disposable" preserve="true" />
import type { Params, Position } from "./messages.js";
import type { CallOptions, PublishOptions, SubscribeOptions } from "./options.js";
import type { ResultStream } from "./stream.js";
import type { Subscription } from "./subscription.js";

/** How a connection ended. */
export interface CloseInfo {
  /** The WebSocket close code; 1006 if the connection was cut without a word. */
  readonly code: number;
  /** The reason the closing side gave, or "". */
  readonly reason: string;
}

/** Where a published event stands. */
export interface Published extends Position {
  readonly topic: string;
}

/**
 * One connection to a hub, carrying any number of calls, streams and subscriptions at once.
 *
 * Every call settles exactly once: with a result, or with an error that says whether the work may have been
 * executed. It does not reconnect: once `closed` has settled, connect again.
 */
export interface Hub extends AsyncDisposable {
  /**
   * Calls a method and gives its result. Chunks of a streaming method are dropped; use {@link Hub.stream}.
   *
   * Rejects with an {@link RpcError} (the hub's answer, or a subclass: `TimeoutError`, `OverloadedError`,
   * `CancelledError`), a {@link DisconnectedError}, a {@link ProtocolError}, or a `TypeError` naming the
   * parameter that has no exact JSON form.
   */
  call<T = unknown>(method: string, params?: Params, options?: CallOptions): Promise<T>;

  /**
   * Calls a method whose result comes in chunks. It is sent at once, whether or not somebody reads.
   *
   * Loop and `result` fail with the errors of {@link Hub.call}, and with a {@link ProtocolError} if a chunk is
   * missing.
   *
   * @throws TypeError naming the parameter that has no exact JSON form.
   */
  stream<T = unknown, R = unknown>(method: string, params?: Params, options?: CallOptions): ResultStream<T, R>;

  /**
   * Sends a notification: nobody will tell whether it arrived.
   *
   * @throws DisconnectedError if the connection is not open.
   * @throws TypeError naming the parameter that has no exact JSON form.
   */
  notify(method: string, params?: Params): void;

  /**
   * Subscribes to a topic (`jobs.42.progress`) or a pattern: `*` stands for one token, a last `>` for one or more. A
   * pattern that begins with one of them does not reach `system.`.
   *
   * Resolves when the hub has confirmed; from then on nothing is missed. Any number of subscriptions of a connection
   * may overlap: each gets every event it matches, once.
   *
   * Rejects with an {@link RpcError} (for example FORBIDDEN, or INVALID_PARAMS for a topic that is none), a
   * {@link DisconnectedError}, a {@link ProtocolError}, or a `TypeError` if an option makes no sense.
   */
  subscribe<T = unknown>(topic: string, options?: SubscribeOptions): Promise<Subscription<T>>;

  /**
   * Publishes an event; resolves with its position when the hub has stored it.
   *
   * Rejects with the errors of {@link Hub.call}.
   *
   * @param data any JSON; `undefined` is a `TypeError`.
   */
  publish(topic: string, data: unknown, options?: PublishOptions): Promise<Published>;

  /**
   * Closes the connection; settles when it is closed. Calls in flight reject, and subscriptions end,
   * at once with a {@link DisconnectedError}.
   *
   * @param code 1000 (default), or 3000 to 4999.
   * @param reason at most 123 bytes of UTF-8.
   */
  close(code?: number, reason?: string): Promise<void>;

  /** Settles when the connection has ended, from whichever side. Never rejects. */
  readonly closed: Promise<CloseInfo>;
}
