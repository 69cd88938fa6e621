/**
 * The methods that this client serves: the hub calls, handlers answer.
 */
/// <reference lib="esnext.disposable" preserve="true" />
import { INTERNAL_ERROR, METHOD_NOT_FOUND } from "./codes.js";
import { notification } from "./encode.js";
import { isAsyncIterable } from "./iterables.js";
import { checkFunction, checkKnown } from "./known.js";
import { DisconnectedError, RpcError } from "./errors.js";
import type { ForeignId, Principal, WireRequest } from "./messages.js";
import type { CallOptions, JsonSchema, RegisterOptions, RetryPolicy } from "./options.js";
import { notSendable } from "./oversize.js";
import { Room } from "./room.js";

/** What {@link RegisterOptions} may have. */
const KNOWN = new Set("summary streaming idempotent maxConcurrency timeoutMs paramsSchema resultSchema".split(" "));

/** How many chunks may be ahead of what the caller has taken. */
const WINDOW = 256;

/** What a handler is told beside the params. */
export interface ServedCall {
  /** Aborted when nobody waits for the outcome any more: cancelled, out of time, or the session is lost. */
  readonly signal: AbortSignal;
  /** That of the caller, and as `timeout_ms` the time that is left. */
  readonly metadata: Readonly<Record<string, unknown>>;
  /** Who calls, as the hub says; nothing a caller says of itself. Undefined from a hub that does not say it. */
  readonly principal: Principal | undefined;
  /** Reports progress to the caller, if it listens. */
  readonly progress: (value: unknown) => void;
}

/** Serves calls of a method. */
export interface Handler<P = unknown> {
  (params: P, call: ServedCall): unknown;
  /** Set by `checked` of `trunkline/schema`; what the options of the registration say comes first. */
  readonly schemas?: { readonly params: JsonSchema | undefined; readonly result: JsonSchema | undefined } | undefined;
}

/** A method that is served. */
export interface Registration extends AsyncDisposable {
  readonly method: string;
  /** No new calls come; those that run may finish. Never rejects, and may be repeated. */
  readonly unregister: (options?: UnregisterOptions) => Promise<void>;
}

/** Options of {@link Registration.unregister}. */
export interface UnregisterOptions {
  /**
   * Resolves when the calls that run have ended, and lets others wait for whoever serves the method next: before a
   * program that is restarted, or replaced, ends.
   */
  readonly drain?: boolean | undefined;
  /** How long that may take. */
  readonly timeoutMs?: number | undefined;
}

interface Served {
  readonly handler: Handler;
  readonly params: object;
  unregistering?: Promise<void>;
}

/** A call that a handler works on. */
interface Run {
  readonly id: ForeignId;
  readonly abort: AbortController;
  /** Closed when the outcome is not wanted any more. */
  readonly room: Room;
}

type CallHub = (method: string, params: object, options: CallOptions) => Promise<unknown>;

export class Callee {
  readonly #call: CallHub;
  readonly #send: (message: object) => void;
  readonly #warn: (message: string) => void;
  readonly #served = new Map<string, Served>();
  readonly #running = new Map<ForeignId, Run>();

  /** `send` throws what keeps a message from being sent. */
  constructor(call: CallHub, send: (message: object) => void, warn: (message: string) => void) {
    this.#call = call;
    this.#send = send;
    this.#warn = warn;
  }

  async register(method: string, handler: Handler, options: RegisterOptions): Promise<Registration> {
    checkKnown(options, KNOWN);
    checkFunction("handler", handler);
    await this.#served.get(method)?.unregistering;
    if (this.#served.has(method)) {
      throw new TypeError(`${method} is served already`);
    }
    const { maxConcurrency, timeoutMs, paramsSchema, resultSchema, ...others } = options;
    const served: Served = {
      handler,
      params: {
        method,
        ...others,
        max_concurrency: maxConcurrency,
        timeout_ms: timeoutMs,
        params: paramsSchema ?? handler.schemas?.params,
        result: resultSchema ?? handler.schemas?.result,
      },
    };
    // Its first call may come right behind the reply.
    this.#served.set(method, served);
    try {
      await this.#announce(served);
    } catch (error) {
      this.#served.delete(method);
      throw error;
    }
    const unregister = (how?: UnregisterOptions): Promise<void> =>
      (served.unregistering ??= this.#unregister(method, how));
    return { method, unregister, [Symbol.asyncDispose]: () => unregister() };
  }

  /** A new session: it knows of no methods. */
  again(): void {
    for (const served of this.#served.values()) {
      if (served.unregistering === undefined) {
        this.#announce(served, { attempts: 1e9 }).catch((error: unknown) => {
          this.#warn(`registering again failed: ${String(error)}`);
        });
      }
    }
  }

  /** The session is lost: nobody hears of any outcome. */
  lost(): void {
    for (const id of this.#running.keys()) {
      this.cancel(id);
    }
  }

  /** The outcome is not wanted any more. */
  cancel(id: ForeignId): void {
    const run = this.#running.get(id);
    this.#running.delete(id);
    run?.abort.abort();
    run?.room.close();
  }

  /** The caller has taken so many chunks. */
  credit(id: ForeignId, consumed: number): void {
    this.#running.get(id)?.room.credit(consumed);
  }

  /** The hub calls. */
  async request({ id, method, params, metadata, principal }: WireRequest): Promise<void> {
    const run: Run = { id, abort: new AbortController(), room: new Room(WINDOW) };
    this.#running.set(id, run);
    const reply = await this.#outcome(run, () => {
      const served = this.#served.get(method);
      if (served === undefined) {
        throw new RpcError({ code: METHOD_NOT_FOUND, message: `no method ${method}` });
      }
      return served.handler(params, {
        signal: run.abort.signal,
        metadata,
        principal,
        progress: (value) => {
          const token = metadata.progress_token;
          if (token !== undefined) {
            this.#tell(run, "$/progress", { token, value: value ?? null });
          }
        },
      });
    });
    if (run.room.isOpen) {
      this.#running.delete(id);
      run.room.close();
      try {
        this.#send(reply);
      } catch (error) {
        this.#send({ jsonrpc: "2.0", id, error: unsent(error) });
      }
    }
  }

  async #outcome(run: Run, handle: () => unknown): Promise<object> {
    const { id } = run;
    try {
      let result = await handle();
      if (isAsyncIterable(result)) {
        result = await this.#stream(run, result[Symbol.asyncIterator]());
      }
      return { jsonrpc: "2.0", id, result: result ?? null };
    } catch (error) {
      return { jsonrpc: "2.0", id, error: this.#wireError(error, id) };
    }
  }

  /** What no handler meant for callers is told to them by its name; its text is here, under the same id. */
  #wireError(error: unknown, id: ForeignId): { code: number; message: string; data?: unknown } {
    if (error instanceof RpcError) {
      const { code, message, data } = error;
      return { code, message, data };
    }
    const why = `failed: ${(error as Partial<Error> | undefined | null)?.name ?? typeof error} (id ${id})`;
    this.#warn(`${why}: ${String(error)}`);
    return { code: INTERNAL_ERROR, message: why, data: { error_id: id } };
  }

  /** Sends chunks; gives what the generator returns. */
  async #stream(run: Run, iterator: AsyncIterator<unknown, unknown>): Promise<unknown> {
    try {
      for (let index = 0; run.room.isOpen; index += 1) {
        // oxlint-disable-next-line no-await-in-loop -- one chunk after the other
        const { done, value } = await iterator.next();
        if (done === true) {
          return value;
        }
        // oxlint-disable-next-line no-await-in-loop
        if (await run.room.wait()) {
          run.room.add(1);
          const params = { request_id: run.id, data: value ?? null, index };
          this.#tell(run, "stream_chunk", params);
        }
      }
    } finally {
      await iterator.return?.();
    }
    return null;
  }

  #tell(run: Run, method: string, params: object): void {
    if (run.room.isOpen) {
      try {
        this.#send(notification(method, params));
      } catch (error) {
        throw new RpcError(unsent(error));
      }
    }
  }

  /** Registers a method; one that was unregistered meanwhile is so once more. */
  async #announce(served: Served, retry?: Partial<RetryPolicy>): Promise<void> {
    await this.#call("method.register", served.params, { idempotent: true, retry });
    if (served.unregistering !== undefined) {
      await this.#unregister((served.params as { method: string }).method);
    }
  }

  async #unregister(method: string, options?: UnregisterOptions): Promise<void> {
    try {
      await this.#call("method.unregister", { method, drain: options?.drain }, { idempotent: true, timeoutMs: options?.timeoutMs });
    } catch (error) {
      if (!(error instanceof DisconnectedError)) {
        this.#warn(`unregistering ${method} failed: ${String(error)}`);
      }
    }
    this.#served.delete(method);
  }
}

/** What the caller is told where a message was not sent: it is too large, or has something that cannot be sent. */
function unsent(error: unknown): { code: number; message: string } {
  return notSendable({ message: String(error).replaceAll(/\p{Surrogate}/gu, "\u{FFFD}") });
}
