/**
 * A call that a mock hub runs: its chunks, its input, its deadline, and its one outcome.
 */
import { ERROR_CODES, RpcError, type RpcErrorInit } from "../index.js";
import { AsyncQueue } from "../queue.js";
import { Room } from "../room.js";
import type { MockContext, MockHandler } from "./mock-connection.js";

const WINDOW = 256;

/** How a call ended. */
export type Outcome = { readonly result: unknown } | { readonly error: RpcErrorInit };

export class CallRun {
  /** How far chunks may be ahead of the caller. */
  readonly room: Room;
  readonly #id: number | string;
  readonly #metadata: Readonly<Record<string, unknown>>;
  readonly #send: (message: object) => void;
  readonly #abort = new AbortController();
  readonly #input = new AsyncQueue<unknown>();
  #taken = 0;

  constructor(id: number | string, metadata: Readonly<Record<string, unknown>>, send: (message: object) => void) {
    const window = metadata.window as { items?: number } | undefined;
    this.room = new Room(window?.items ?? WINDOW);
    this.#id = id;
    this.#metadata = metadata;
    this.#send = send;
  }

  /** What the handler of a notification is told: nobody listens. */
  static silent(metadata: Readonly<Record<string, unknown>>): MockContext {
    return new CallRun(0, metadata, () => undefined).#context();
  }

  /** Nobody waits for the outcome any more. */
  abort(): void {
    this.#abort.abort();
    this.room.close();
    this.#input.end();
  }

  /** The caller feeds an item. */
  feed(item: unknown, isFinal: boolean): void {
    if (isFinal) {
      this.#input.end();
    } else {
      this.#input.push(item);
    }
  }

  /** Runs the handler to its end, or to the call's deadline; never rejects. */
  async outcomeOf(handler: MockHandler, params: unknown): Promise<Outcome> {
    const { timeout_ms: timeoutMs } = this.#metadata;
    let timer: ReturnType<typeof setTimeout> | undefined;
    const late = new Promise<Outcome>((resolve) => {
      if (typeof timeoutMs === "number") {
        timer = setTimeout(() => {
          const message = `no result within ${timeoutMs} ms`;
          resolve({ error: { code: ERROR_CODES.COMMUNICATION_TIMEOUT, message, maybeExecuted: true } });
          this.abort();
        }, timeoutMs);
      }
    });
    const outcome = await Promise.race([late, this.#run(handler, params)]);
    clearTimeout(timer);
    return outcome;
  }

  async #run(handler: MockHandler, params: unknown): Promise<Outcome> {
    try {
      let result: unknown = await handler(params, this.#context());
      if (typeof result === "object" && result !== null && Symbol.asyncIterator in result) {
        result = await this.#stream((result as AsyncIterable<unknown>)[Symbol.asyncIterator]());
      }
      return { result: result ?? null };
    } catch (error) {
      if (error instanceof RpcError) {
        const { code, message, data, maybeExecuted } = error;
        return { error: { code, message, data, maybeExecuted } };
      }
      return { error: { code: ERROR_CODES.INTERNAL_ERROR, message: String(error), maybeExecuted: true } };
    }
  }

  #context(): MockContext {
    return {
      signal: this.#abort.signal,
      metadata: this.#metadata,
      input: this.#items(),
      progress: (value) => {
        const { progress_token: token } = this.#metadata;
        if (token !== undefined) {
          this.#send({ method: "$/progress", params: { token, value } });
        }
      },
    };
  }

  async *#items(): AsyncGenerator {
    while (true) {
      // oxlint-disable-next-line no-await-in-loop -- one item after the other
      const { done, value } = await this.#input.next();
      if (done === true) {
        return;
      }
      this.#taken += 1;
      this.#send({ method: "stream.credit", params: { request_id: this.#id, consumed: this.#taken } });
      yield value;
    }
  }

  /** Sends chunks, as far as the caller gives credit; gives what the generator returns. */
  async #stream(chunks: AsyncIterator<unknown, unknown>): Promise<unknown> {
    for (let index = 0; ; index += 1) {
      // oxlint-disable-next-line no-await-in-loop -- one chunk after the other
      const { done, value } = await chunks.next();
      if (done === true) {
        this.#chunk(null, index, true);
        return value ?? { chunks: index };
      }
      // oxlint-disable-next-line no-await-in-loop
      if (!(await this.room.wait())) {
        // oxlint-disable-next-line no-await-in-loop
        await chunks.return?.();
        return null;
      }
      this.room.add(1);
      this.#chunk(value, index, false);
    }
  }

  #chunk(data: unknown, index: number, isFinal: boolean): void {
    const params = { request_id: this.#id, chunk_type: "data", data, is_final: isFinal, index };
    this.#send({ method: "stream_chunk", params });
  }
}
