/**
 * What one client of a mock hub serves, and the calls that it works on.
 */
import { ERROR_CODES, RpcError } from "../index.js";
import { AsyncQueue } from "../queue.js";
import { TypedChunk } from "./call-run.js";
import type { Message, MockContext } from "./mock-connection.js";
import { mayHaveRun } from "./mock-errors.js";
import type { Contract } from "./mock-params.js";

/** Who calls, where a hub asks for no credentials. */
export const PRINCIPAL = { name: "anonymous", roles: ["act_as", "admin", "callee"], tenant: "default", claims: {} };

/** A call that a client works on. */
interface Asked {
  readonly chunks: AsyncQueue<unknown>;
  readonly context: MockContext | undefined;
  resolve(value: unknown): void;
  reject(error: unknown): void;
}

export class MockCallee {
  /** By the name of the method. */
  readonly contracts = new Map<string, Contract>();
  readonly #send: (message: object) => void;
  readonly #asked = new Map<number | string, Asked>();
  #lastAsked = 0;

  constructor(send: (message: object) => void) {
    this.#send = send;
  }

  /** Calls a method that the client serves, for a call of another one or, without context, for the test itself. */
  ask(method: string, params: unknown, context?: MockContext): unknown {
    this.#lastAsked += 1;
    const id = `h:${this.#lastAsked}`;
    const chunks = new AsyncQueue<unknown>();
    const result = new Promise((resolve, reject) => {
      this.#asked.set(id, { resolve, reject, chunks, context });
      const { progress_token: token, ...metadata } = context?.metadata ?? {};
      const asking = token === undefined ? metadata : { ...metadata, progress_token: id };
      this.#send({ id, method, params, metadata: asking, principal: PRINCIPAL });
    });
    context?.signal.addEventListener("abort", () => {
      this.#settle(id);
      this.#send({ method: "$/cancelRequest", params: { id } });
    });
    return context !== undefined && this.contracts.get(method)?.isStreaming === true ? relayed(chunks, result) : result;
  }

  answered({ id = 0, result, error }: Message): void {
    const asked = this.#settle(id);
    if (error === undefined) {
      asked?.resolve(result);
    } else {
      asked?.reject(new RpcError({ ...error, maybeExecuted: mayHaveRun(error.code) }));
    }
  }

  chunk(id: number | string, { chunk_type: type, data, index, is_final: isFinal }: Readonly<Record<string, unknown>>): void {
    if (isFinal !== true) {
      this.#asked.get(id)?.chunks.push(new TypedChunk(type, data));
      this.#send({ method: "stream.credit", params: { request_id: id, consumed: (index as number) + 1 } });
    }
  }

  progress(id: number | string, value: unknown): void {
    this.#asked.get(id)?.context?.progress(value);
  }

  /** The client is gone for good, and what it worked on. */
  forget(): void {
    for (const asked of this.#asked.values()) {
      asked.chunks.end();
      asked.reject(new RpcError({ code: ERROR_CODES.WORKER_CRASHED, message: "the client that served it is gone" }));
    }
    this.#asked.clear();
    this.contracts.clear();
  }

  /** The call that the client has answered, or was told to leave; it is over. */
  #settle(id: number | string): Asked | undefined {
    const asked = this.#asked.get(id);
    this.#asked.delete(id);
    asked?.chunks.end();
    return asked;
  }
}

/** The chunks of a callee as a handler's own, and its result. */
async function* relayed(chunks: AsyncQueue<unknown>, result: Promise<unknown>): AsyncGenerator {
  // It is awaited below, once the chunks are through.
  result.catch(() => undefined);
  while (true) {
    // oxlint-disable-next-line no-await-in-loop -- one chunk after the other
    const { done, value } = await chunks.next();
    if (done === true) {
      return result;
    }
    yield value;
  }
}
