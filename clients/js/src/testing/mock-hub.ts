/**
 * A hub in memory, for tests of programs that use one: methods, streams, topics, served methods, sessions; and the faults that
 * are hard to come by: cuts, restarts, refusals, delays.
 */
import { encode } from "../encode.js";
import { connect, ERROR_CODES, RpcError, type ConnectOptions, type Hub, type Published, type RpcErrorInit, type WebSocketConstructor } from "../index.js";
import { MockConnection, type MockCall, type MockHandler } from "./mock-connection.js";
import { faultOfTopic } from "./mock-errors.js";
import { MockKeys } from "./mock-keys.js";
import { MockSocket } from "./mock-socket.js";
import { MockTopics } from "./mock-topics.js";

const SUBPROTOCOL = "trunkline.v1+json";

/** An error that the next calls of a method end with. */
interface Refusal {
  readonly method: string;
  readonly error: RpcErrorInit;
  left: number;
}

/** A hub in memory. */
export class MockHub {
  /** Any will do: nothing listens there. */
  readonly url = "ws://mock/ws";
  /** The class to give to `connect`: its sockets end here. */
  readonly WebSocket: WebSocketConstructor;
  /** What was called so far, the oldest first. */
  readonly calls: MockCall[] = [];
  /** How many milliseconds later everything arrives that the hub sends. */
  delayMs = 0;
  readonly methods = new Map<string, MockHandler>();
  readonly topics = new MockTopics();
  /** By the id of its session. */
  readonly sessions = new Map<string, MockConnection>();
  readonly connections = new Set<MockConnection>();
  /** What was called with idempotency keys. */
  readonly keys = new MockKeys();
  isDraining = false;
  #isOffline = false;
  #refusal: { readonly code: number; readonly reason: string } | undefined;
  #refusals: Refusal[] = [];
  #turn = 0;
  /** What was published with an idempotency key. */
  readonly #published = new Map<string, Published>();

  constructor() {
    const open = (): MockSocket => this.#open();
    // What `new` gives is the object that a plain function returns: a socket of this hub.
    this.WebSocket = function WebSocketOfMock() {
      return open();
    } as unknown as WebSocketConstructor;
  }

  /** A client of this hub, connected; it reconnects within milliseconds, unless `options` say otherwise. */
  connect(options: ConnectOptions = {}): Promise<Hub> {
    return connect(this.url, { reconnect: { minDelayMs: 1, maxDelayMs: 10 }, WebSocket: this.WebSocket, ...options });
  }

  /**
   * Serves a method: what `handler` returns is the result, an async iterable gives chunks. An `RpcError` it throws reaches the
   * caller as it is, anything else as INTERNAL_ERROR.
   */
  method<P = unknown>(name: string, handler: MockHandler<P>): this {
    this.methods.set(name, handler as MockHandler);
    return this;
  }

  /** The next `times` calls of a method end with this error, and are not run. */
  refuse(method: string, error: RpcErrorInit, times = 1): void {
    this.#refusals.push({ method, error, left: times });
  }

  /** Publishes an event, as another client would. */
  publish(topic: string, data: unknown, publisher = "mock", idempotencyKey?: string): Published {
    const key = `${publisher} ${topic} ${idempotencyKey}`;
    const before = idempotencyKey === undefined ? undefined : this.#published.get(key);
    if (before !== undefined) {
      return before;
    }
    const fault = faultOfTopic(topic);
    if (fault !== undefined) {
      throw new RpcError(fault);
    }
    // Refused before it is kept: a TypeError that names what JSON does not carry.
    encode({ data });
    const event = this.topics.publish(topic, data, publisher);
    for (const connection of this.connections) {
      connection.deliver(event);
    }
    const stored = { topic, epoch: event.epoch, offset: event.offset };
    if (idempotencyKey !== undefined) {
      this.#published.set(key, stored);
    }
    return stored;
  }

  /** Calls a method that a client has registered; rejects with an `RpcError` as any caller's call does. */
  call(method: string, params: unknown = {}): Promise<unknown> {
    const callee = this.calleeOf(method);
    const message = `no client serves ${method}`;
    return callee === undefined
      ? Promise.reject(new RpcError({ code: ERROR_CODES.METHOD_NOT_FOUND, message }))
      : Promise.resolve(callee.callee.ask(method, params));
  }

  /** The clients that serve a method now. */
  calleesOf(method: string): MockConnection[] {
    return [...this.connections].filter((connection) => connection.callee.contracts.has(method));
  }

  /** The client that gets the next call of a method; several take turns. */
  calleeOf(method: string): MockConnection | undefined {
    const callees = this.calleesOf(method);
    this.#turn += 1;
    // A client that is away gets what it is asked when it resumes its session.
    return (
      callees[this.#turn % callees.length] ??
      [...this.sessions.values()].find((connection) => connection.callee.contracts.has(method))
    );
  }

  /** Ends all connections without a word, as a cable would. Sessions wait for their clients. */
  cut(): void {
    const present = [...this.connections];
    for (const connection of present) {
      connection.end(1006, "");
    }
  }

  /** While it is offline no connection comes about, and there is none. */
  offline(isOffline: boolean): void {
    this.#isOffline = isOffline;
    if (isOffline) {
      this.cut();
    }
  }

  /** Connections are refused from now on with a close code: 4501 wrong token, 4502 origin; undefined: no more. */
  refuseConnections(code: number | undefined, reason = ""): void {
    this.#refusal = code === undefined ? undefined : { code, reason };
  }

  /** New calls are refused, as by a hub that is stopping, until `restart`. */
  drain(): void {
    this.isDraining = true;
  }

  /** The hub is started again: sessions, topics and registrations are gone; methods are not. */
  restart(): void {
    const connections = [...this.connections];
    this.isDraining = false;
    this.sessions.clear();
    this.topics.forget();
    this.#published.clear();
    this.keys.clear();
    for (const connection of connections) {
      connection.stop("the hub is restarting");
    }
  }

  /** Ends all its clients for good, whoever made them: one that is left open keeps the program alive after its tests. */
  close(): void {
    const connections = [...this.connections];
    this.refuseConnections(4502, "the mock hub is closed");
    for (const connection of connections) {
      connection.end(4502, "the mock hub is closed");
    }
  }

  /** The error that a call of a method is to end with now, if there is one. */
  takeRefusal(method: string): RpcErrorInit | undefined {
    const refusal = this.#refusals.find((each) => each.method === method);
    if (refusal === undefined) {
      return undefined;
    }
    refusal.left -= 1;
    this.#refusals = this.#refusals.filter(({ left }) => left > 0);
    return refusal.error;
  }

  #open(): MockSocket {
    const offline = this.#isOffline ? { code: 1006, reason: "" } : undefined;
    return new MockSocket(new MockConnection(this), SUBPROTOCOL, offline ?? this.#refusal);
  }
}
