/**
 * A call that a mock hub runs: its chunks, its input, its deadline, and its one outcome.
 */
import { encode } from "../encode.js";
import { ERROR_CODES, RpcError, type RpcErrorInit } from "../index.js";
import { isAsyncIterable } from "../iterables.js";
import { notSendable } from "../oversize.js";
import { AsyncQueue } from "../queue.js";
import { Room } from "../room.js";
import type { MockContext, MockHandler } from "./mock-connection.js";

const WINDOW = 256;

/** How a call ended. */
export type Outcome = { readonly result: unknown } | { readonly error: RpcErrorInit };

/** A chunk whose type its callee has given. */
export class TypedChunk {
  readonly type: unknown;
  readonly data: unknown;

  constructor(type: unknown, data: unknown) {
    this.type = type;
    this.data = data;
  }
}

/** What a call sends its caller. */
export interface CallMessage {
  readonly method: string;
  readonly params: object;
}

export class CallRun {
  /** How far chunks may be ahead of the caller. */
  readonly room: Room;
  readonly #id: number | string;
  readonly method: string;
  readonly #metadata: Readonly<Record<string, unknown>>;
  readonly #send: (message: CallMessage) => void;
  readonly #abort = new AbortController();
  readonly #input = new AsyncQueue<unknown>();
  #taken = 0;

  /** Called when there was a sign of life, which puts off the deadline of a stream. */
  #moved: () => void = () => undefined;
  /** Whether the handler gives chunks, as far as that is known by now. */
  isStream = false;
  #chunks = 0;
  #lastType: unknown = "data";

  constructor(
    id: number | string,
    method: string,
    metadata: Readonly<Record<string, unknown>>,
    send: (message: CallMessage) => void,
  ) {
    const window = metadata.window as { items?: number } | undefined;
    this.room = new Room(window?.items ?? WINDOW);
    this.#id = id;
    this.method = method;
    this.#metadata = metadata;
    this.#send = send;
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

  /** How many chunks were sent. */
  get chunks(): number {
    return this.#chunks;
  }

  /** Runs the handler to its end, or to the call's deadline; never rejects. */
  async outcomeOf(handler: MockHandler, params: unknown): Promise<Outcome> {
    const { timeout_ms: timeoutMs } = this.#metadata;
    let timer: ReturnType<typeof setTimeout> | undefined;
    const late = new Promise<Outcome>((resolve) => {
      const expire = (): void => {
        if (this.isStream && !this.room.hasRoom) {
          // A stream that waits for its reader is not silent.
          this.#moved();
          return;
        }
        const what = this.isStream ? "sent nothing for" : "was not done after";
        const message = `${this.method} ${what} ${Number(timeoutMs) / 1_000} s`;
        resolve({ error: { code: ERROR_CODES.COMMUNICATION_TIMEOUT, message, maybeExecuted: true, data: this.#told() } });
        this.abort();
      };
      this.#moved = () => {
        clearTimeout(timer);
        timer = typeof timeoutMs === "number" ? setTimeout(expire, timeoutMs) : undefined;
      };
      this.#moved();
    });
    const outcome = await Promise.race([late, this.#run(handler, params)]);
    this.#moved = () => undefined;
    clearTimeout(timer);
    return this.#sendable(outcome);
  }

  async #run(handler: MockHandler, params: unknown): Promise<Outcome> {
    try {
      let result: unknown = await handler(params, this.#context());
      if (isAsyncIterable(result)) {
        this.isStream = true;
        this.#moved();
        result = await this.#stream(result[Symbol.asyncIterator]());
      }
      return { result: result ?? null };
    } catch (error) {
      if (error instanceof RpcError) {
        const { code, message, data } = error;
        // As a hub does: what a method raises has begun, unless it says otherwise.
        const maybeExecuted = error.maybeExecuted && code !== ERROR_CODES.INVALID_PARAMS;
        return { error: { code, message, data: { ...this.#told(), ...(data as object | undefined) }, maybeExecuted } };
      }
      return { error: this.#failure(error) };
    }
  }

  /** What a caller is told of an exception that was not meant for it: neither its text nor its stack, as by a hub. */
  #failure(error: unknown): RpcErrorInit {
    const id = Math.random().toString(16).slice(2, 10);
    const name = error instanceof Error ? error.name : typeof error;
    // A hub logs it; whoever wrote the handler has to see it in the output of the tests.
    console.warn(`${this.method} failed (id ${id})`, error);
    const message = `${this.method} failed: ${name} (id ${id})`;
    return { code: ERROR_CODES.INTERNAL_ERROR, message, maybeExecuted: true, data: { ...this.#told(), error_id: id } };
  }

  /** The outcome, or why it cannot be sent: JSON does not carry it. */
  #sendable(outcome: Outcome): Outcome {
    try {
      encode(outcome);
      return outcome;
    } catch (error) {
      return { error: { ...this.#unsent(error), data: this.#told() } };
    }
  }

  /** Sends a message; what JSON does not carry ends the call. */
  #tell(message: CallMessage): void {
    try {
      this.#send(message);
    } catch (error) {
      throw new RpcError(this.#unsent(error));
    }
  }

  #unsent(error: unknown): RpcErrorInit {
    const why = error instanceof Error ? error.message : String(error);
    return { ...notSendable({ message: `${this.method}: ${why}`.replaceAll(/\p{Surrogate}/gu, "\u{FFFD}") }), maybeExecuted: true };
  }

  #told(): object {
    return this.#chunks > 0 ? { chunks: this.#chunks } : {};
  }

  #context(): MockContext {
    return {
      signal: this.#abort.signal,
      metadata: this.#metadata,
      input: this.#items(),
      progress: (value) => {
        const { progress_token: token } = this.#metadata;
        if (token !== undefined) {
          this.#tell({ method: "$/progress", params: { token, value: value ?? null } });
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
        return value === undefined ? { chunks: index } : value;
      }
      // oxlint-disable-next-line no-await-in-loop
      if (!(await this.room.wait())) {
        // oxlint-disable-next-line no-await-in-loop
        await chunks.return?.();
        return null;
      }
      this.room.add(1);
      try {
        this.#chunk(value, index, false);
      } catch (error) {
        // oxlint-disable-next-line no-await-in-loop -- it is the last
        await chunks.return?.();
        throw error;
      }
      this.#chunks += 1;
      this.#moved();
    }
  }

  #chunk(value: unknown, index: number, isFinal: boolean): void {
    const isTyped = value instanceof TypedChunk;
    if (!isFinal) {
      this.#lastType = isTyped ? value.type : "data";
    }
    const data = isTyped ? value.data : value;
    const params = { request_id: this.#id, chunk_type: this.#lastType, data: data ?? null, is_final: isFinal, index };
    this.#tell({ method: "stream_chunk", params });
  }
}
