/**
 * A result that comes in pieces.
 */
import { ProtocolError } from "./errors.js";
import type { WireChunk, Window } from "./messages.js";
import { AsyncQueue } from "./queue.js";
import type { Sink } from "./request.js";

/** One piece of a streamed result. */
export interface StreamChunk<T = unknown> {
  /** The method's own name for this kind of piece, for example `"partial_answer"`. */
  readonly type: string;
  readonly data: T;
  /** Counts from 0, without gaps. */
  readonly index: number;
}

/**
 * A running stream: its chunks, in order and without gaps, and the summary that follows them.
 *
 * The loop ends when the hub has confirmed success. If the stream fails, the loop first gives the chunks that
 * came and then throws the same error `result` rejects with; an aborted stream throws at once. Leaving the loop
 * early (`break`, `return`, `throw`) cancels the stream at the hub.
 *
 * There is one sequence of chunks: two loops over the same stream share it. A method waits when it is a window
 * ({@link StreamOptions.window}) ahead of the reader.
 */
export interface ResultStream<T = unknown, R = unknown> extends AsyncIterable<StreamChunk<T>> {
  /** The reply that follows the last chunk. Ignoring it is fine: it never causes an unhandled rejection. */
  readonly result: Promise<R>;
}

/** What the hub counts at most of a window. */
const MAX_ITEMS = 1_024;
const MAX_BYTES = 4_194_304;

/** What a stream tells its request. */
export interface Reader {
  readonly signal: AbortSignal | undefined;
  readonly window: { readonly [K in keyof Window]-?: number };
  /** The reader has had enough before the hub was done. */
  leave(): void;
  /** The reader has taken so many chunks in total. */
  grant(consumed: number): void;
}

/** The receiving side of a {@link ResultStream}. */
export class ChunkStream<T, R> implements ResultStream<T, R>, AsyncIterator<StreamChunk<T>, undefined>, Sink {
  readonly result: Promise<R>;
  readonly #queue = new AsyncQueue<WireChunk>();
  readonly #reader: Reader;
  #settle!: { resolve(result: R): void; reject(error: unknown): void };
  #expected = 0;
  #complete = false;
  #items = 0;
  #units = 0;

  constructor(reader: Reader) {
    this.#reader = reader;
    this.result = new Promise<R>((resolve, reject) => {
      this.#settle = { resolve, reject };
    });
    this.result.catch(() => {
      // Looked at here once, so that nobody has to.
    });
  }

  /** Takes the next chunk; an error means that it is not the next one. */
  chunk(chunk: WireChunk): ProtocolError | undefined {
    const { index, isFinal } = chunk;
    if (this.#complete) {
      return new ProtocolError(`chunk ${index} came after the final one`);
    }
    if (index !== this.#expected) {
      return new ProtocolError(`chunk ${index} came, ${this.#expected} was due`);
    }
    if (isFinal) {
      this.#complete = true;
    } else {
      this.#expected += 1;
      this.#queue.push(chunk);
    }
    return undefined;
  }

  /** The ordinary reply. A method that is no stream has no chunks and no final one either. */
  resolve(result: unknown): void {
    if (this.#expected > 0 && !this.#complete) {
      this.reject(new ProtocolError(`the stream ended after ${this.#expected} chunks, none of them final`));
      return;
    }
    this.#settle.resolve(result as R);
    this.#queue.end();
  }

  reject(error: unknown): void {
    if (this.#reader.signal?.aborted === true) {
      // Whoever aborts wants nothing more, not even what is here already.
      this.#queue.clear();
    }
    this.#settle.reject(error);
    this.#queue.fail(error);
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  async next(): Promise<IteratorResult<StreamChunk<T>, undefined>> {
    const result = await this.#queue.next();
    if (result.done === true) {
      return result;
    }
    const { type, data, index, units } = result.value;
    this.#consume(index + 1, units);
    return { done: false, value: { type, data: data as T, index } };
  }

  /** Called by `for await` when its body is left early. */
  return(): Promise<IteratorResult<StreamChunk<T>, undefined>> {
    this.#queue.clear();
    this.#queue.end();
    if (!this.#complete) {
      this.#reader.leave();
    }
    return Promise.resolve({ done: true, value: undefined });
  }

  /**
   * Tells the method every now and then: so early that it never waits for a grant that is due. A UTF-16 unit is up to
   * three bytes, so that a sixth of the window in units may be half of it in bytes.
   */
  #consume(consumed: number, units: number): void {
    const { items, bytes } = this.#reader.window;
    this.#items += 1;
    this.#units += units;
    if (this.#items * 2 >= Math.min(items, MAX_ITEMS) || this.#units * 6 >= Math.min(bytes, MAX_BYTES)) {
      this.#items = 0;
      this.#units = 0;
      this.#reader.grant(consumed);
    }
  }
}
