/**
 * One client of a mock hub: its session, subscriptions, calls and the methods that it serves.
 */
import { encode } from "../encode.js";
import { ERROR_CODES, type Params, type Position, type Published, type RpcErrorInit } from "../index.js";
import { Session } from "../session.js";
import { isPattern } from "../topics.js";
import { CallRun, type Outcome } from "./call-run.js";
import { MockCallee, PRINCIPAL } from "./mock-callee.js";
import { DRAINING, faultOfMetadata, faultOfTopic, wireError } from "./mock-errors.js";
import { unwrapped } from "./mock-keys.js";
import { aboutOf, contractOf, faultOf, faultOfEpoch, inFlight } from "./mock-params.js";
import type { MockHub } from "./mock-hub.js";
import type { FarEnd, MockSocket } from "./mock-socket.js";
import { reaches, type Kept, type PatternPosition } from "./mock-topics.js";

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
export interface Message {
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

export class MockConnection implements FarEnd {
  readonly #hub: MockHub;
  readonly #runs = new Map<number | string, CallRun>();
  readonly #subscriptions = new Set<string>();
  /** What this client serves. */
  readonly callee = new MockCallee((message) => {
    this.send(message);
  });
  #socket: MockSocket | undefined;
  #session: Session | undefined;
  /** The connection whose session this socket goes on with. */
  #heir: MockConnection | undefined;

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
    this.callee.forget();
    this.#runs.clear();
  }

  // --- what the hub does ---

  deliver(event: Kept): void {
    if ([...this.#subscriptions].some((pattern) => reaches(pattern, event.topic))) {
      this.send({ method: "event", params: event }, false);
    }
  }

  /** Sends a message, numbered where there is a session. */
  send(message: object, isNumbered = true): void {
    const text = encode({ jsonrpc: "2.0", ...message });
    const session = isNumbered ? this.#session : undefined;
    // Numbered and kept in any case: a client that is away gets it when it resumes.
    const frame = session?.number(text) ?? text;
    this.#socket?.deliver(frame, this.#hub.delayMs);
  }

  /** Ends a call with an error. */
  refuse(id: number | string | null | undefined, error: RpcErrorInit, isNumbered = true): void {
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
      this.callee.answered(message);
    } else if (id === undefined) {
      this.#notified(method, message);
    } else {
      this.#called(id, method, message);
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
        this.callee.chunk(about, params);
        break;
      case "$/progress":
        this.callee.progress(params.token as string, params.value);
        break;
      case "publish":
        this.#publish(params);
        break;
      default:
        this.#hub.calls.push({ method, params, metadata, isNotification: true });
        this.#runSilently(method, params, metadata);
    }
  }

  #runSilently(method: string, params: Params, metadata: Readonly<Record<string, unknown>>): void {
    const handler = this.#handlerOf(method);
    if (handler !== undefined && !this.#hub.isDraining) {
      const run = new CallRun(0, method, metadata, ({ method: sent, params: about }) => {
        if (sent === "stream_chunk") {
          run.room.credit((about as { index: number }).index + 1);
        }
      });
      void run.outcomeOf(handler, params);
    }
  }

  #cancel(id: number | string): void {
    const run = this.#runs.get(id);
    run?.abort();
    if (run !== undefined && this.#runs.delete(id)) {
      const data = run.chunks > 0 ? { chunks: run.chunks } : {};
      this.refuse(id, { code: ERROR_CODES.CANCELLED, message: `${run.method} was cancelled`, maybeExecuted: true, data });
    }
  }

  /** What runs a method: the mock's own handler, or a client that serves it. */
  #handlerOf(method: string): MockHandler | undefined {
    const callee = this.#hub.calleeOf(method);
    return this.#hub.methods.get(method) ?? (callee && ((params, context) => callee.callee.ask(method, params, context)));
  }

  #called(id: number | string, method: string, message: Message): void {
    const { params = {}, metadata = {} } = message;
    const reply = (result: unknown): void => {
      this.send({ id, result }, !UNNUMBERED.test(method));
    };
    const fault = this.#runs.has(id) ? inFlight(id) : (faultOfMetadata(metadata) ?? faultOfEpoch(method, metadata, this.#hub) ?? faultOf(method, params, this.#hub));
    if (fault !== undefined) {
      // Under its own id the refusal would end the call that is in flight.
      this.refuse(this.#runs.has(id) ? null : id, fault, !UNNUMBERED.test(method));
    } else if (method === "session.open") {
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
      if (method === "session.close") {
        this.forget();
        this.end(1000, "the session has ended: closed");
      }
    }
  }

  #publish({ topic, data, idempotency_key: key }: Readonly<Record<string, unknown>>): Published | undefined {
    const stored = key as string | undefined;
    return faultOfTopic(topic) === undefined
      ? this.#hub.publish(topic as string, data ?? null, PRINCIPAL.name, stored)
      : undefined;
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
        return { pong: true, time_ms: Date.now(), ...aboutOf(this.#hub) };
      case "history":
        return this.#hub.topics.history(topic, params.after as Position | undefined, params.limit as number | undefined);
      case "unsubscribe":
        return { topic, unsubscribed: this.#subscriptions.delete(topic) };
      case "publish":
        return this.#publish(params);
      case "method.register":
        this.callee.contracts.set(name, contractOf(params));
        return { method: name, callees: this.#hub.calleesOf(name).length };
      case "method.unregister":
        return { method: name, unregistered: this.callee.contracts.delete(name) };
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
      old.#socket?.end(4500, "this session goes on over a newer connection");
      const opened = { session: session.id, resumed: true, received: session.takeAck(), ttl_ms: TTL_MS, ...aboutOf(this.#hub) };
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
    this.send({ id, result: { ...opened, ttl_ms: TTL_MS, ...aboutOf(this.#hub), ...reason } }, false);
    this.#session = new Session(opened.session, TTL_MS);
    sessions.set(opened.session, this);
  }

  #subscribe(reply: (result: unknown) => void, params: Readonly<Record<string, unknown>>): void {
    const topic = params.topic as string;
    const recover = params.recover as PatternPosition | undefined;
    const joined = isPattern(topic)
      ? this.#hub.topics.joinPattern(topic, recover, !this.#subscriptions.has(topic))
      : this.#hub.topics.join(topic, recover, (params.history as number | undefined) ?? 0);
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
    const handler = this.#handlerOf(method);
    const refusal = this.#hub.isDraining ? DRAINING : this.#hub.takeRefusal(method);
    if (refusal !== undefined || handler === undefined) {
      const message = `no method '${method}': mock.method("${method}", ...) adds it`;
      this.refuse(id, refusal ?? { code: ERROR_CODES.METHOD_NOT_FOUND, message });
      return;
    }
    const run = new CallRun(id, method, metadata, (message) => {
      this.send(message);
    });
    this.#runs.set(id, run);
    const key = metadata.idempotency_key as string | undefined;
    const joined = key === undefined ? undefined : this.#hub.keys.joined(key, method, params);
    const running = run.outcomeOf(joined === undefined ? handler : () => unwrapped(joined), params);
    if (key !== undefined && joined === undefined) {
      this.#hub.keys.keep(key, method, params, run, running);
    }
    void this.#finish(id, running);
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
