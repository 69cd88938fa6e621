/**
 * What {@link connect} gives: the public face of a connection.
 */
/// <reference lib="esnext.disposable" preserve="true" />
import type { EventMessage, Gap, Params, Position } from "./messages.js";
import type { CallOptions, HistoryOptions, PublishOptions, RegisterOptions, StreamOptions, SubscribeOptions } from "./options.js";
import type { Handler, Registration } from "./callee.js";
import type { ResultStream } from "./stream.js";
import type { Listener, Subscription } from "./subscription.js";

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

/** What a hub keeps of a topic. `epoch` and `offset` are those of its last event, which may not be among `events`. */
export interface TopicHistory<T = unknown> extends Published {
  /** In order, the oldest first. */
  readonly events: readonly EventMessage<T>[];
  /** Whether events follow: ask again, after the last one. */
  readonly more: boolean;
  /** What is missing between `after` and the first event; undefined where nothing is. */
  readonly gap: Gap | undefined;
}

/** What became of the connection. */
export type ConnectionState =
  | {
      readonly state: "connected";
      /** Whether the session goes on: nothing was lost. Otherwise calls that had been sent have failed. */
      readonly resumed: boolean;
    }
  | {
      /** `"connecting"` before the first connection, `"reconnecting"` after a loss. */
      readonly state: "connecting" | "reconnecting";
      /** Counts from 1 for every loss of the connection; before the first one, attempts that failed. */
      readonly attempt: number;
      /** When it is made, in milliseconds from now; earlier if the network comes back. */
      readonly delayMs: number;
      /** Why there is no connection. */
      readonly cause: CloseInfo;
    }
  | ({ readonly state: "closed" } & CloseInfo);

/**
 * A hub, over a connection that is made again when it is cut. It carries any number of calls, streams, subscriptions and
 * served methods at once.
 *
 * Every call settles exactly once: with a result, or with an error that says whether the work may have been
 * executed. With a session (the default) cuts go unnoticed, as long as the hub is there again within its
 * `TRUNKLINE_SESSION_SECONDS`. What is asked without a connection waits for one.
 */
export interface Hub extends AsyncDisposable {
  /**
   * Calls a method and gives its result.
   *
   * Rejects with an {@link RpcError} (the hub's answer, or a subclass: `TimeoutError`, `OverloadedError`,
   * `CancelledError`), a {@link DisconnectedError}, a {@link ProtocolError}, a {@link UsageError} if the method is a stream,
   * or a `TypeError` naming the parameter that has no exact JSON form, or the option that there is none of.
   */
  call<T = unknown>(method: string, params?: Params, options?: CallOptions): Promise<T>;

  /**
   * Calls a method whose result comes in chunks. It is sent at once, whether or not somebody reads; the method waits when
   * it is a window ahead of the reader.
   *
   * Loop and `result` fail with the errors of {@link Hub.call}, with a {@link ProtocolError} if a chunk is
   * missing, and with a {@link UsageError} if the method is no stream.
   *
   * @throws TypeError naming the parameter that has no exact JSON form, or the option that there is none of.
   */
  stream<T = unknown, R = unknown>(method: string, params?: Params, options?: StreamOptions): ResultStream<T, R>;

  /**
   * Sends a notification: nobody will tell whether it arrived.
   *
   * @throws DisconnectedError if the hub is closed, or too much waits for a connection already.
   * @throws RpcError if it is larger than what the hub takes.
   * @throws TypeError naming the parameter that has no exact JSON form.
   */
  notify(method: string, params?: Params): void;

  /**
   * Subscribes to a topic (`orders.42.progress`) or a pattern: `*` stands for one token, a last `>` for one or more. A
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
   * Subscribes, and gives each event to a listener, one after the other: waits for what an `async` one returns.
   *
   * Gaps come to `options.onGap`. What the listener throws surfaces as an uncaught error, as does an end that nobody asked
   * for; end it with `unsubscribe()` of what this resolves with, or `options.signal`. Rejects as {@link Hub.subscribe}; after
   * an abort that is never an unhandled rejection.
   */
  on<T = unknown>(topic: string, listener: Listener<T>, options?: SubscribeOptions): Promise<Subscription<T>>;

  /**
   * Publishes an event; resolves with its position when the hub has stored it.
   *
   * Rejects with the errors of {@link Hub.call}.
   *
   * @param data any JSON; `undefined` is a `TypeError`.
   */
  publish(topic: string, data: unknown, options?: PublishOptions): Promise<Published>;

  /**
   * The latest events of a topic (`limit`: 100, at most 1,000), or the first ones after a position, without a subscription.
   *
   * Rejects with the errors of {@link Hub.call}.
   */
  history<T = unknown>(topic: string, options?: HistoryOptions): Promise<TopicHistory<T>>;

  /**
   * Serves a method: from now on the hub sends calls of it to this client, as long as it is connected.
   *
   * What `handler` returns is the result; an async iterable gives chunks (with `streaming`), and what its generator
   * returns is the summary. A {@link RpcError} it throws reaches the caller with code, message and data, anything else as
   * INTERNAL_ERROR with its name and message.
   *
   * Rejects with an {@link RpcError} (FORBIDDEN without the role `callee`, or for a name of the hub's own), or a
   * `TypeError` if this client serves the method already.
   */
  register<P = unknown>(method: string, handler: Handler<P>, options?: RegisterOptions): Promise<Registration>;

  /** What the connection is doing; `"closed"` is for good. */
  readonly connectionState: ConnectionState["state"];

  /**
   * Tells of every change of the connection from now on.
   *
   * @returns a function that stops it.
   */
  onConnectionState(listener: (state: ConnectionState) => void): () => void;

  /**
   * Closes the connection, and its session at the hub; settles when it is closed. Calls and streams in flight reject at
   * once with a {@link DisconnectedError}; loops over subscriptions are given what came, and end.
   *
   * @param code 1000 (default), or 3000 to 4999.
   * @param reason at most 123 bytes of UTF-8.
   */
  close(code?: number, reason?: string): Promise<void>;

  /** Settles when the connection has ended for good, from whichever side. Never rejects. */
  readonly closed: Promise<CloseInfo>;
}
