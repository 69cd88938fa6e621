/**
 * One client of a mock hub: its session, subscriptions, calls and the methods that it serves.
 */
import { encode } from "../encode.js";
import { ERROR_CODES, RpcError, type Params, type Position, type Published, type RpcErrorInit } from "../index.js";
import { AsyncQueue } from "../queue.js";
import { Session } from "../session.js";
import { CallRun, type Outcome } from "./call-run.js";
import { faultOfMethod, faultOfPattern, faultOfTopic, invalid, mayHaveRun, wireError } from "./mock-errors.js";
import type { MockHub } from "./mock-hub.js";
import type { FarEnd, MockSocket } from "./mock-socket.js";
import { isPattern } from "../topics.js";
import { reaches, type Kept } from "./mock-topics.js";

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
const LIMITS = { max_message_bytes: 16_777_216, max_depth: 128, max_batch: 100 };
const HUB = { name: "trunkline", version: "mock" };
const ABOUT = { ttl_ms: TTL_MS, limits: LIMITS, hub: HUB };
/** Who calls, where a hub asks for no credentials. */
const PRINCIPAL = { name: "anonymous", roles: ["act_as", "admin", "callee"], tenant: "default", claims: {} };

/** A call that a client works on. */
interface Asked {
  readonly chunks: AsyncQueue<unknown>;
  readonly context: MockContext | undefined;
  resolve(value: unknown): void;
  reject(error: unknown): void;
}

export class MockConnection implements FarEnd {
  readonly #hub: MockHub;
  readonly #runs = new Map<number | string, CallRun>();
  readonly #subscriptions = new Set<string>();
  /** The methods that this client serves, and whether they stream. */
  readonly #served = new Map<string, boolean>();
  readonly #asked = new Map<number | string, Asked>();
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
      waiting.chunks.end();
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

  /** Calls a method that this client serves, for a call of another one or, without context, for the test itself. */
  ask(method: string, params: unknown, context?: MockContext): unknown {
    this.#lastAsked += 1;
    const id = `h:${this.#lastAsked}`;
    const chunks = new AsyncQueue<unknown>();
    const result = new Promise((resolve, reject) => {
      this.#asked.set(id, { resolve, reject, chunks, context });
      this.send({ id, method, params, metadata: context?.metadata ?? {}, principal: PRINCIPAL });
    });
    context?.signal.addEventListener("abort", () => {
      this.#settle(id);
      this.send({ method: "$/cancelRequest", params: { id } });
    });
    return context !== undefined && this.#served.get(method) === true ? relayed(chunks, result) : result;
  }

  /** The call that a client has answered, or was told to leave; it is over. */
  #settle(id: number | string): Asked | undefined {
    const asked = this.#asked.get(id);
    this.#asked.delete(id);
    asked?.chunks.end();
    return asked;
  }

  /** Sends a message, numbered where there is a session. */
  send(message: object, isNumbered = true): void {
    const text = encode({ jsonrpc: "2.0", ...message });
    const session = isNumbered ? this.#session : undefined;
    this.#socket?.deliver(session?.number(text) ?? text, this.#hub.delayMs);
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
      this.#answered(message);
    } else if (id === undefined) {
      this.#notified(method, message);
    } else {
      this.#called(id, method, message);
    }
  }

  #answered({ id = 0, result, error }: Message): void {
    const asked = this.#settle(id);
    if (error === undefined) {
      asked?.resolve(result);
    } else {
      asked?.reject(new RpcError({ ...error, maybeExecuted: mayHaveRun(error.code) }));
    }
  }

  #chunk(id: number | string, { data, index, is_final: isFinal }: Readonly<Record<string, unknown>>): void {
    if (isFinal !== true) {
      this.#asked.get(id)?.chunks.push(data);
      this.send({ method: "stream.credit", params: { request_id: id, consumed: (index as number) + 1 } });
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
        this.#chunk(about, params);
        break;
      case "$/progress":
        this.#asked.get(params.token as string)?.context?.progress(params.value);
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
    return this.#hub.methods.get(method) ?? (callee && ((params, context) => callee.ask(method, params, context)));
  }

  #called(id: number | string, method: string, message: Message): void {
    const { params = {}, metadata = {} } = message;
    const reply = (result: unknown): void => {
      this.send({ id, result }, !UNNUMBERED.test(method));
    };
    const fault = this.#runs.has(id) ? inFlight(id) : faultOf(method, params, this.#hub);
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
        return { pong: true, time_ms: Date.now(), limits: LIMITS, hub: HUB };
      case "unsubscribe":
        return { topic, unsubscribed: this.#subscriptions.delete(topic) };
      case "publish":
        return this.#publish(params);
      case "method.register":
        this.#served.set(name, params.streaming === true);
        return { method: name, callees: this.#hub.calleesOf(name).length };
      case "method.unregister":
        return { method: name, unregistered: this.#served.delete(name) };
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
      const opened = { session: session.id, resumed: true, received: session.takeAck(), ...ABOUT };
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
    this.send({ id, result: { ...opened, ...ABOUT, ...reason } }, false);
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

function inFlight(id: number | string): RpcErrorInit {
  const message = `id ${JSON.stringify(id)} is in flight on this connection; use another or wait for its reply`;
  return { code: ERROR_CODES.INVALID_REQUEST, message, data: { duplicate_id: id } };
}

/** What is wrong with the params of a method of the hub's own; undefined where nothing is. */
function faultOf(method: string, params: Readonly<Record<string, unknown>>, hub: MockHub): RpcErrorInit | undefined {
  const { topic, recover, history, method: name } = params;
  switch (method) {
    case "subscribe":
      return faultOfPattern(topic) ?? faultOfStart(topic as string, recover as Position | undefined, history);
    case "publish":
      return "data" in params ? faultOfTopic(topic) : invalid("publish: Object missing required field `data`");
    case "method.register":
      return hub.methods.has(name as string)
        ? { code: ERROR_CODES.FORBIDDEN, message: `method.register: ${String(name)} is a method of the executors` }
        : faultOfMethod(name);
    default:
      return undefined;
  }
}

function faultOfStart(topic: string, recover: Position | undefined, history: unknown): RpcErrorInit | undefined {
  if (recover === undefined) {
    return undefined;
  }
  if (history !== undefined) {
    return invalid("subscribe: either recover or history: both say where to begin");
  }
  if (isPattern(topic)) {
    return invalid(`${topic} is a pattern, which has no position to recover from`);
  }
  return recover.offset >= 0 ? undefined : invalid("subscribe: recover.offset must be 0 or more");
}

/** The chunks of a callee as a handler's own, and its result. */
async function* relayed(chunks: AsyncQueue<unknown>, result: Promise<unknown>): AsyncGenerator {
  result.catch(() => undefined); // it is awaited below, once the chunks are through
  while (true) {
    // oxlint-disable-next-line no-await-in-loop -- one chunk after the other
    const { done, value } = await chunks.next();
    if (done === true) {
      return await result;
    }
    yield value;
  }
}
