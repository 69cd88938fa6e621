/**
 * One client of a mock hub: its session, subscriptions, calls and the methods that it serves.
 */
import { encode } from "../encode.js";
import { ERROR_CODES, RpcError, type Params, type RpcErrorInit } from "../index.js";
import { Session } from "../session.js";
import { CallRun, type Outcome } from "./call-run.js";
import type { MockHub } from "./mock-hub.js";
import type { FarEnd, MockSocket } from "./mock-socket.js";
import { reaches, type Kept } from "./topics.js";

/** What was called. */
export interface MockCall {
  readonly method: string;
  readonly params: unknown;
  readonly metadata: Readonly<Record<string, unknown>>;
  /** Whether nobody waits for an answer. */
  readonly isNotification: boolean;
}

/** What a handler of a mock hub is told beside the params. */
export interface MockContext {
  /** Aborted when the caller cancels, or its deadline passes. */
  readonly signal: AbortSignal;
  readonly metadata: Readonly<Record<string, unknown>>;
  /** What the caller feeds the call with. */
  readonly input: AsyncIterable<unknown>;
  readonly progress: (value: unknown) => void;
}

/** A method of a mock hub: the result, or an async iterable of chunks whose `return` is the summary. */
export type MockHandler<P = unknown> = (params: P, context: MockContext) => unknown;

/** A message as it came. */
interface Message {
  readonly id?: number | string;
  readonly seq?: number;
  readonly method?: string;
  readonly params?: Readonly<Record<string, unknown>>;
  readonly metadata?: Readonly<Record<string, unknown>>;
  readonly result?: unknown;
  readonly error?: RpcErrorInit;
}

const TTL_MS = 60_000;
const UNNUMBERED = /^(?:auth|rpc\.ping|(?:un)?subscribe|session\..*)$/u;
const RETRYABLE = new Set([1001, 1002, 2001, 2002, 2003, 5001, 6003]);
const NAMES = new Map<number, string>(Object.entries(ERROR_CODES).map(([name, code]) => [code, name]));
const LIMITS = { max_message_bytes: 16_777_216, max_depth: 128, max_batch: 100 };
const PRINCIPAL = { name: "mock", roles: [], tenant: "default", claims: {} };

export class MockConnection implements FarEnd {
  readonly #hub: MockHub;
  readonly #runs = new Map<number | string, CallRun>();
  readonly #subscriptions = new Set<string>();
  readonly #served = new Set<string>();
  readonly #asked = new Map<number | string, { resolve(value: unknown): void; reject(error: unknown): void }>();
  #socket: MockSocket | undefined;
  #session: Session | undefined;
  /** The connection whose session this socket goes on with. */
  #heir: MockConnection | undefined;
  #lastAsked = 0;

  constructor(hub: MockHub) {
    this.#hub = hub;
  }

  // --- the socket ---

  opened(socket: MockSocket): void {
    this.#socket = socket;
    this.#hub.connections.add(this);
  }

  gone(): void {
    const { connections, sessions } = this.#hub;
    connections.delete(this);
    const owner = this.#heir ?? this;
    owner.#socket = undefined;
    owner.#subscriptions.clear();
    connections.delete(owner);
    if (owner.#session === undefined || sessions.get(owner.#session.id) !== owner) {
      owner.forget();
    }
  }

  received(text: string): void {
    if (this.#heir === undefined) {
      this.#take(JSON.parse(text) as Message, text.length);
    } else {
      this.#heir.received(text);
    }
  }

  /** The connection ends. */
  end(code: number, reason: string): void {
    this.#socket?.end(code, reason, this.#hub.delayMs);
  }

  /** The hub stops: says how far it has read, and reads no more. */
  stop(reason: string): void {
    if (this.#session !== undefined) {
      this.send({ method: "session.ack", params: { received: this.#session.takeAck(), last: true } }, false);
    }
    this.end(1012, reason);
    this.forget();
  }

  /** The hub knows nothing of it any more: what runs is aborted. */
  forget(): void {
    this.#session = undefined;
    for (const run of this.#runs.values()) {
      run.abort();
    }
    for (const waiting of this.#asked.values()) {
      waiting.reject(new RpcError({ code: ERROR_CODES.WORKER_CRASHED, message: "the client that served it is gone" }));
    }
    this.#runs.clear();
    this.#asked.clear();
    this.#served.clear();
  }

  // --- what the hub does ---

  deliver(event: Kept): void {
    if ([...this.#subscriptions].some((pattern) => reaches(pattern, event.topic))) {
      this.send({ method: "event", params: event }, false);
    }
  }

  serves(method: string): boolean {
    return this.#served.has(method);
  }

  /** Calls a method that this client serves. */
  ask(method: string, params: unknown): Promise<unknown> {
    this.#lastAsked += 1;
    const id = `h:${this.#lastAsked}`;
    return new Promise((resolve, reject) => {
      this.#asked.set(id, { resolve, reject });
      this.send({ id, method, params, metadata: {}, principal: PRINCIPAL });
    });
  }

  /** Sends a message, numbered where there is a session. */
  send(message: object, isNumbered = true): void {
    const text = encode({ jsonrpc: "2.0", ...message });
    const session = isNumbered ? this.#session : undefined;
    this.#socket?.deliver(session?.number(text) ?? text, this.#hub.delayMs);
  }

  /** Ends a call with an error. */
  refuse(id: number | string | undefined, error: RpcErrorInit, isNumbered = true): void {
    if (id !== undefined) {
      this.send({ id, error: wireError(error) }, isNumbered);
    }
  }

  // --- what the client sends ---

  #take(message: Message, units: number): void {
    const { id, seq, method } = message;
    if (seq !== undefined && this.#session?.receive(seq, units) === false) {
      return;
    }
    if (this.#session?.isAckDue === true) {
      this.send({ method: "session.ack", params: { received: this.#session.takeAck() } }, false);
    }
    if (method === undefined) {
      this.#answered(message);
    } else if (id === undefined) {
      this.#notified(method, message);
    } else {
      this.#called(id, method, message);
    }
  }

  #answered({ id = 0, result, error }: Message): void {
    const waiting = this.#asked.get(id);
    this.#asked.delete(id);
    if (error === undefined) {
      waiting?.resolve(result);
    } else {
      waiting?.reject(new RpcError(error));
    }
  }

  #notified(method: string, { params = {}, metadata = {} }: Message): void {
    const about = (params.id ?? params.request_id) as number | string;
    switch (method) {
      case "session.ack":
        this.#session?.acknowledge(params.received as number);
        break;
      case "$/cancelRequest":
        this.#cancel(about);
        break;
      case "stream.credit":
        this.#runs.get(about)?.room.credit(params.consumed as number);
        break;
      case "stream.push":
        this.#runs.get(about)?.feed(params.data, params.is_final === true);
        break;
      case "stream_chunk":
        this.send({ method: "stream.credit", params: { request_id: about, consumed: (params.index as number) + 1 } });
        break;
      default:
        this.#hub.calls.push({ method, params, metadata, isNotification: true });
        void this.#hub.methods.get(method)?.(params, CallRun.silent(metadata));
    }
  }

  #cancel(id: number | string): void {
    this.#runs.get(id)?.abort();
    if (this.#runs.delete(id)) {
      this.refuse(id, { code: ERROR_CODES.CANCELLED, message: "cancelled", maybeExecuted: true });
    }
  }

  #called(id: number | string, method: string, message: Message): void {
    const { params = {}, metadata = {} } = message;
    const reply = (result: unknown): void => {
      this.send({ id, result }, !UNNUMBERED.test(method));
    };
    if (method === "session.open") {
      this.#open(id, params.resume as { session: string; received: number } | undefined);
    } else if (method === "subscribe") {
      this.#subscribe(reply, params);
    } else {
      const answer = this.#own(method, params);
      if (answer === undefined) {
        this.#run(id, method, params, metadata);
      } else {
        reply(answer);
      }
    }
  }

  /** The answer to a method of the hub's own; undefined for others. */
  #own(method: string, params: Readonly<Record<string, unknown>>): object | undefined {
    const name = params.method as string;
    const topic = params.topic as string;
    switch (method) {
      case "session.close":
        this.#hub.sessions.delete(this.#session?.id ?? "");
        return {};
      case "rpc.ping":
        return { pong: true, time_ms: Date.now(), limits: LIMITS };
      case "unsubscribe":
        return { topic, unsubscribed: this.#subscriptions.delete(topic) };
      case "publish":
        return this.#hub.publish(topic, params.data, PRINCIPAL.name);
      case "method.register":
        this.#served.add(name);
        return { method: name };
      case "method.unregister":
        this.#served.delete(name);
        return { method: name };
      default:
        return undefined;
    }
  }

  #open(id: number | string, resume: { readonly session: string; readonly received: number } | undefined): void {
    const { sessions } = this.#hub;
    const old = resume && sessions.get(resume.session);
    const session = old === undefined ? undefined : old.#session;
    if (old !== undefined && session !== undefined && resume !== undefined) {
      const missing = session.resume(resume.received);
      const opened = { session: session.id, resumed: true, received: session.takeAck(), ttl_ms: TTL_MS, limits: LIMITS };
      this.send({ id, result: opened }, false);
      old.#socket = this.#socket;
      this.#heir = old;
      this.#hub.connections.delete(this);
      this.#hub.connections.add(old);
      for (const text of missing) {
        old.#socket?.deliver(text, this.#hub.delayMs);
      }
      return;
    }
    const opened = { session: `mock-${sessions.size}-${Math.random().toString(36).slice(2)}`, resumed: false, received: 0 };
    const reason = resume === undefined ? {} : { reason: "unknown" };
    this.send({ id, result: { ...opened, ttl_ms: TTL_MS, limits: LIMITS, ...reason } }, false);
    this.#session = new Session(opened.session, TTL_MS);
    sessions.set(opened.session, this);
  }

  #subscribe(reply: (result: unknown) => void, params: Readonly<Record<string, unknown>>): void {
    const topic = params.topic as string;
    const recover = params.recover as { epoch: string; offset: number } | undefined;
    const joined = this.#hub.topics.join(topic, recover, (params.history as number | undefined) ?? 0);
    reply(joined.reply);
    if (joined.gap !== undefined) {
      this.send({ method: "event.gap", params: joined.gap }, false);
    }
    for (const event of joined.missed) {
      this.send({ method: "event", params: event }, false);
    }
    this.#subscriptions.add(topic);
  }

  #run(id: number | string, method: string, params: Params, metadata: Readonly<Record<string, unknown>>): void {
    this.#hub.calls.push({ method, params, metadata, isNotification: false });
    const handler = this.#hub.methods.get(method);
    const refusal = this.#hub.isDraining ? DRAINING : this.#hub.takeRefusal(method);
    if (refusal !== undefined || handler === undefined) {
      const message = `no method '${method}': mock.method("${method}", ...) adds it`;
      this.refuse(id, refusal ?? { code: ERROR_CODES.METHOD_NOT_FOUND, message });
      return;
    }
    const run = new CallRun(id, metadata, (message) => {
      this.send(message);
    });
    this.#runs.set(id, run);
    void this.#finish(id, run.outcomeOf(handler, params));
  }

  async #finish(id: number | string, running: Promise<Outcome>): Promise<void> {
    const outcome = await running;
    if (this.#runs.delete(id)) {
      if ("error" in outcome) {
        this.refuse(id, outcome.error);
      } else {
        this.send({ id, result: outcome.result });
      }
    }
  }
}

const DRAINING: RpcErrorInit = {
  code: ERROR_CODES.WORKER_UNAVAILABLE,
  message: "the hub is stopping",
  maybeExecuted: false,
  data: { draining: true, retry_after_ms: 100 },
};

/** An error with what a hub says in it. */
function wireError({ code, message, data, maybeExecuted }: RpcErrorInit): object {
  const said = {
    type: NAMES.get(code) ?? "APPLICATION_ERROR",
    retryable: RETRYABLE.has(code),
    maybe_executed: maybeExecuted ?? false,
  };
  return { code, message, data: { ...said, ...(data as object | undefined) } };
}
