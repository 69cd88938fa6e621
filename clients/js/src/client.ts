/**
 * The public face: hands what callers ask to the wire, and what arrives to whom it belongs.
 */
import { Callee, type Handler, type Registration } from "./callee.js";
import { DisconnectedError, errorFromWire, isDraining, ProtocolError, UsageError } from "./errors.js";
import type { CloseInfo, ConnectionState, Hub, Published, TopicHistory } from "./hub.js";
import { throughAll } from "./intercepting.js";
import { checkClose, checkKnown } from "./known.js";
import { Link, type LinkUser } from "./link.js";
import type { ForeignId, Incoming, Params, Reply, SessionEnd, TopicMessage } from "./messages.js";
import type { CallOptions, HistoryOptions, PublishOptions, RegisterOptions, RetryPolicy, StreamOptions, SubscribeOptions } from "./options.js";
import type { Frame } from "./outbox.js";
import type { Oversized } from "./oversize.js";
import { callOf, leftError, Requests, type Call } from "./requests.js";
import { Retrier, type AttemptOptions } from "./retrier.js";
import { policyOf, type Settings } from "./settings.js";
import { ChunkStream, type ResultStream } from "./stream.js";
import type { Listener, Subscription } from "./subscription.js";
import { SubscriptionTable } from "./subscription-table.js";

const WINDOW = { items: 64, bytes: 262_144 };

/** What {@link PublishOptions} may have. */
const PUBLISH = new Set(["idempotencyKey", "timeoutMs", "signal", "retry"]);

export class Client implements Hub, LinkUser {
  readonly link: Link;
  readonly #settings: Settings;
  readonly #requests: Requests;
  readonly #retrier: Retrier;
  readonly #subscriptions: SubscriptionTable;
  readonly #callee: Callee;

  constructor(settings: Settings) {
    const { warn } = settings;
    this.#settings = settings;
    this.link = new Link(settings, this);
    this.#requests = new Requests(this.link, warn);
    this.#retrier = new Retrier(this.link);
    this.#subscriptions = new SubscriptionTable({
      ask: (method, params, options, read, once) =>
        once === true
          ? this.#once(this.#callOf(method, params), options, read)
          : this.#ask(method, params, options, false, read),
      backOff: (ms) => this.#retrier.backOff(ms),
      warn,
    });
    this.#callee = new Callee(
      (method, params, options) => this.call(method, params, options),
      (message) => {
        this.#requests.push(message);
      },
      warn,
    );
  }

  get closed(): Promise<CloseInfo> {
    return this.link.closed;
  }

  get connectionState(): ConnectionState["state"] {
    return this.link.states.current;
  }

  onConnectionState(listener: (state: ConnectionState) => void): () => void {
    return this.link.states.listen(listener);
  }

  async call<T>(method: string, params?: Params, options: CallOptions = {}): Promise<T> {
    const call = { method, params, options, isStream: false };
    const result = await throughAll(this.#settings.defaults, call, (made) =>
      this.#ask<T>(made.method, made.params, made.options, made.options.idempotencyKey !== undefined),
    );
    return result;
  }

  stream<T, R>(method: string, params?: Params, options: StreamOptions = {}): ResultStream<T, R> {
    const call = { method, params, options, isStream: true };
    return throughAll(this.#settings.defaults, call, (made) => this.#stream<T, R>(made.method, made.params, made.options));
  }

  #stream<T, R>(method: string, params: Params | undefined, options: StreamOptions): ResultStream<T, R> {
    const call = this.#callOf(method, params, options);
    const window = { items: options.window?.items ?? WINDOW.items, bytes: options.window?.bytes ?? WINDOW.bytes };
    const stream = new ChunkStream<T, R>({
      method,
      signal: options.signal,
      window,
      leave: () => {
        this.#requests.giveUp(request, leftError(request.isWritten));
      },
      grant: (consumed) => {
        this.#requests.grant(request, consumed);
      },
    });
    const mayWait = this.#policy(options).attempts > 1;
    const request = this.#requests.start(call, { ...options, window, mayWait }, stream);
    return stream;
  }

  notify(method: string, params?: Params): void {
    const { body, codec } = this.#callOf(method, params);
    const packed = codec.join({ jsonrpc: "2.0" }, body);
    this.link.admit(packed);
    this.link.send({ packed, isNumbered: true, isLasting: true });
  }

  subscribe<T>(topic: string, options: SubscribeOptions = {}): Promise<Subscription<T>> {
    return this.#subscriptions.subscribe(topic, options);
  }

  on<T>(topic: string, listener: Listener<T>, options: SubscribeOptions = {}): Promise<Subscription<T>> {
    const subscribing: Promise<Subscription<T>> = this.#subscriptions.subscribe(topic, options, listener).catch((error: unknown) => {
      // Whoever aborts it, as an effect that is undone does, need not wait for it.
      if (options.signal?.aborted === true) {
        subscribing.catch(() => undefined);
      }
      throw error;
    });
    return subscribing;
  }

  async publish(topic: string, data: unknown, options: PublishOptions = {}): Promise<Published> {
    if (data === undefined || typeof data === "function" || typeof data === "symbol") {
      throw new TypeError(`data is ${typeof data}: publish null to say nothing`);
    }
    checkKnown(options, PUBLISH);
    const { idempotencyKey, ...asked } = options;
    const params = { topic, data, idempotency_key: idempotencyKey };
    const published = await this.#ask<Published>("publish", params, asked, idempotencyKey !== undefined);
    return published;
  }

  history<T>(topic: string, options: HistoryOptions = {}): Promise<TopicHistory<T>> {
    return this.#subscriptions.history(topic, options);
  }

  register<P>(method: string, handler: Handler<P>, options: RegisterOptions = {}): Promise<Registration> {
    return this.#callee.register(method, handler as Handler, options);
  }

  async close(code = 1000, reason = ""): Promise<void> {
    checkClose(code, reason);
    await this.link.close({ code, reason });
  }

  /** For `await using`. Where the platform lacks the symbol, this is a method nobody calls. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  // --- what the link tells ---

  receive(message: Incoming): void {
    switch (message.kind) {
      case "event":
      case "gap":
        this.#deliver(message);
        break;
      case "chunk":
        this.#requests.lookUp(message.requestId, "a chunk")?.chunk(message);
        break;
      case "progress":
        this.#requests.lookUp(message.token, "progress")?.progress(message.value);
        break;
      case "credit":
        this.#credit(message.id, message.consumed);
        break;
      case "cancel":
        this.#callee.cancel(message.id);
        break;
      case "request":
        void this.#callee.request(message);
        break;
      case "nonsense":
        this.#settings.warn(message.why);
        break;
      case "ack":
        break;
      default:
        this.#settle(message);
    }
  }

  longest(ofAll: boolean): Frame | undefined {
    return this.#requests.longest(ofAll);
  }

  tooLarge({ request, served, error }: Oversized): void {
    this.#requests.get(request as number)?.refused(error);
    this.#callee.cancel(served as ForeignId);
  }

  cut(end: CloseInfo): void {
    this.#requests.cut(end);
    this.#subscriptions.cut();
  }

  lost(end: CloseInfo, sessionEnd: SessionEnd | undefined, unread: ReadonlySet<number>): void {
    this.#requests.lost(end, sessionEnd, unread);
    this.#callee.lost();
  }

  up(resumed: boolean): void {
    this.#subscriptions.up();
    if (!resumed) {
      this.#callee.again();
    }
  }

  ended(end: CloseInfo, isOwn: boolean): void {
    this.#requests.ended(end);
    this.#retrier.wakeAll();
    // Who closes knows it: loops just end then.
    this.#subscriptions.endAll(isOwn ? undefined : new DisconnectedError(end, false, "the subscription ended"));
  }

  /** `read` looks at the result the moment it arrives; what it throws rejects. */
  async #ask<R>(
    method: string,
    params: Params | undefined,
    options: CallOptions,
    hasKey: boolean,
    read = (result: unknown): R => result as R,
  ): Promise<R> {
    const call = this.#callOf(method, params, options);
    const policy = this.#policy(options);
    const first = { ...options, mayWait: policy.attempts > 1 };
    const result = await this.#retrier.run(first, { policy, hasKey }, (attempt) => this.#once(call, attempt, read));
    return result;
  }

  #callOf(method: string, params: Params | undefined, options?: CallOptions): Call {
    return callOf(this.link.codec, method, params, options);
  }

  #policy({ input, retry }: CallOptions): RetryPolicy {
    return policyOf(input === undefined && retry, this.#settings.retry);
  }

  #once<R>(call: Call, options: AttemptOptions, read: (result: unknown) => R): Promise<R> {
    return new Promise((resolve, reject) => {
      this.#requests.start(call, options, {
        resolve: (result) => {
          try {
            resolve(read(result));
          } catch (error) {
            reject(error);
          }
          return undefined;
        },
        reject,
        chunk: () => new UsageError(`${call.method} is a stream: use stream()`),
      });
    });
  }

  #settle(reply: Reply): void {
    if (reply.kind === "error") {
      const waits = isDraining(reply.error)
        ? this.#requests.hold(reply.id)
        : this.#requests.putOff(reply.id, reply.error);
      if (waits) {
        return;
      }
    }
    const request = this.#requests.replied(reply.id);
    if (reply.kind === "result") {
      request?.resolve(reply.result);
    } else {
      request?.reject(reply.kind === "error" ? errorFromWire(reply.error) : new ProtocolError(reply.why));
    }
  }

  #credit(id: ForeignId, consumed: number): void {
    if (typeof id === "number") {
      this.#requests.get(id)?.feed?.room.credit(consumed);
    } else {
      this.#callee.credit(id, consumed);
    }
  }

  #deliver(message: TopicMessage): void {
    // A gap may still come after the last reader has left: then nobody misses anything.
    if (!this.#subscriptions.deliver(message) && message.kind === "event") {
      this.#settings.warn(`an event of ${message.topic}, which nobody reads`);
    }
  }
}
