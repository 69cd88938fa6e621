/**
 * A connection: sends requests, hands what arrives to the request it belongs to.
 */
import { ERROR_CODES } from "./codes.js";
import { decode } from "./decode.js";
import { encode } from "./encode.js";
import { DisconnectedError, errorFromWire, ProtocolError } from "./errors.js";
import type { CloseInfo, Hub, Published } from "./hub.js";
import type { ForeignId, Incoming, Outgoing, Params, TopicMessage, WireChunk } from "./messages.js";
import type { CallOptions, PublishOptions, SubscribeOptions } from "./options.js";
import { RequestTable } from "./request-table.js";
import { abortedError, checkMethod, Request, requestMessage, type Sink } from "./request.js";
import { OPEN, type WebSocketLike } from "./socket.js";
import { ChunkStream, type ResultStream } from "./stream.js";
import type { Subscription } from "./subscription.js";
import { SubscriptionTable } from "./subscription-table.js";

/** Hears of messages that make no sense. Must not throw. */
type Warn = (message: string) => void;

export class Connection implements Hub {
  readonly closed: Promise<CloseInfo>;
  readonly #socket: WebSocketLike;
  readonly #warn: Warn;
  readonly #requests = new RequestTable();
  readonly #subscriptions: SubscriptionTable;
  /** Set once either side has ended the connection; from then on nothing is sent and nothing is heard. */
  #end: CloseInfo | undefined;

  /** `socket` has to be open already: it must not miss a message between its handshake and this. */
  constructor(socket: WebSocketLike, warn: Warn) {
    this.#socket = socket;
    this.#warn = warn;
    this.#subscriptions = new SubscriptionTable(warn, (method, params, options, sink) => {
      this.#start(this.#requests.nextId(), method, params, options, sink);
    });
    this.closed = new Promise((resolve) => {
      socket.addEventListener("close", ({ code, reason }) => {
        this.#disconnect({ code, reason });
        resolve({ code, reason });
      });
    });
    socket.addEventListener("message", ({ data }) => {
      this.#receive(data);
    });
  }

  call<T>(method: string, params?: Params, options: CallOptions = {}): Promise<T> {
    return new Promise((resolve, reject) => {
      this.#start(this.#requests.nextId(), method, params, options, {
        resolve: (result) => {
          resolve(result as T);
        },
        reject,
        chunk: (chunk) => {
          this.#dropChunk(chunk, method);
          return undefined;
        },
      });
    });
  }

  stream<T, R>(method: string, params?: Params, options: CallOptions = {}): ResultStream<T, R> {
    const id = this.#requests.nextId();
    const stream = new ChunkStream<T, R>(options.signal, (error) => {
      this.#giveUp(id, error);
    });
    this.#start(id, method, params, options, stream);
    return stream;
  }

  notify(method: string, params?: Params): void {
    checkMethod(method, params);
    const text = encode({ jsonrpc: "2.0", method, params });
    if (!this.#isOpen()) {
      throw this.#neverSent();
    }
    this.#socket.send(text);
  }

  subscribe<T>(topic: string, options: SubscribeOptions = {}): Promise<Subscription<T>> {
    return this.#subscriptions.subscribe(topic, options);
  }

  publish(topic: string, data: unknown, options: PublishOptions = {}): Promise<Published> {
    if (data === undefined || typeof data === "function" || typeof data === "symbol") {
      const fault = `data is ${typeof data}, which JSON does not have: publish null to say nothing`;
      return Promise.reject(new TypeError(fault));
    }
    const { idempotencyKey, ...others } = options;
    return this.call("publish", { topic, data, idempotency_key: idempotencyKey }, others);
  }

  async close(code = 1000, reason = ""): Promise<void> {
    this.#socket.close(code, reason);
    this.#disconnect({ code, reason });
    await this.closed;
  }

  /** For `await using`. Where the platform lacks the symbol, this is a method nobody calls. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /** Sends a request; `sink` gets its outcome. */
  #start(id: number, method: string, params: Params | undefined, options: CallOptions, sink: Sink): void {
    const text = encode(requestMessage(id, method, params, options));
    if (options.signal?.aborted === true) {
      sink.reject(abortedError(options.signal, false));
    } else if (this.#isOpen()) {
      const request = new Request(id, sink, options, (error) => {
        this.#giveUp(id, error);
      });
      // No reply can be missed between these two: sockets deliver from the event loop only.
      this.#socket.send(text);
      this.#requests.add(request);
    } else {
      sink.reject(this.#neverSent());
    }
  }

  /** Ends a request before its reply: cancels it at the hub and rejects it. Without effect once it is settled. */
  #giveUp(id: number, error: unknown): void {
    const request = this.#requests.abandon(id);
    if (request !== undefined) {
      this.#send({ jsonrpc: "2.0", method: "$/cancelRequest", params: { id } });
      request.sink.reject(error);
    }
  }

  #receive(data: unknown): void {
    if (this.#end !== undefined) {
      return;
    }
    if (typeof data === "string") {
      this.#dispatch(decode(data));
    } else {
      this.#warn("a binary frame, which this protocol does not have");
    }
  }

  #dispatch(incoming: Incoming): void {
    switch (incoming.kind) {
      case "result":
        this.#takeReplied(incoming.id)?.sink.resolve(incoming.result);
        break;
      case "error":
        this.#takeReplied(incoming.id)?.sink.reject(errorFromWire(incoming.error));
        break;
      case "broken":
        this.#takeReplied(incoming.id)?.sink.reject(new ProtocolError(incoming.why));
        break;
      case "chunk":
        this.#find(incoming.chunk.requestId, "a chunk")?.chunk(incoming.chunk);
        break;
      case "progress":
        this.#find(incoming.token, "progress")?.progress(incoming.value);
        break;
      case "event":
      case "gap":
        this.#deliver(incoming);
        break;
      case "request":
        this.#refuse(incoming.id, incoming.method);
        break;
      case "nonsense":
        this.#warn(incoming.why);
    }
  }

  #takeReplied(id: number): Request | undefined {
    const request = this.#requests.take(id);
    if (request === undefined && !this.#requests.forget(id)) {
      this.#warn(`a reply to ${id}, which is not in flight`);
    }
    return request;
  }

  #find(id: number, what: string): Request | undefined {
    const request = this.#requests.get(id);
    if (request === undefined && !this.#requests.isAbandoned(id)) {
      this.#warn(`${what} for ${id}, which is not in flight`);
    }
    return request;
  }

  #deliver(message: TopicMessage): void {
    // A gap may still come after the last reader has left: then nobody misses anything.
    if (!this.#subscriptions.deliver(message) && message.kind === "event") {
      this.#warn(`an event of ${message.topic}, to which nobody subscribed`);
    }
  }

  #dropChunk(chunk: WireChunk, method: string): void {
    if (chunk.index === 0) {
      this.#warn(`${method} is a stream, its chunks are dropped: use stream() to read them`);
    }
  }

  #refuse(id: ForeignId, method: string): void {
    const message = `this client has no method ${method}`;
    this.#send({ jsonrpc: "2.0", id, error: { code: ERROR_CODES.METHOD_NOT_FOUND, message } });
  }

  #send(message: Outgoing): void {
    if (this.#isOpen()) {
      this.#socket.send(encode(message));
    }
  }

  #isOpen(): boolean {
    return this.#end === undefined && this.#socket.readyState === OPEN;
  }

  #neverSent(): DisconnectedError {
    // While the hub's close frame is being answered there is no code yet: 1005 stands for "none given".
    return new DisconnectedError(this.#end ?? { code: 1005, reason: "" }, false);
  }

  #disconnect(end: CloseInfo): void {
    this.#end ??= end;
    for (const { sink } of this.#requests.takeAll()) {
      sink.reject(new DisconnectedError(end, true));
    }
    this.#subscriptions.endAll(new DisconnectedError(end, false, "the subscription ended"));
  }
}
