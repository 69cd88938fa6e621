/**
 * A result that comes in pieces.
 */
import { located, ProtocolError, UsageError } from "./errors.js";
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
  /**
   * The reply that follows the last chunk. Ignoring it is fine: it never causes an unhandled rejection. Without a loop the chunks
   * are dropped once a window of them is here, so that it settles; a loop that begins later fails with a {@link UsageError}.
   */
  readonly result: Promise<R>;
}

/** What the hub counts at most of a window. */
const MAX_ITEMS = 1_024;
const MAX_BYTES = 4_194_304;

/** What a stream tells its request. */
export interface Reader {
  readonly method: string;
  readonly signal: AbortSignal | undefined;
  readonly window: { readonly [K in keyof Window]-?: number };
  /** The reader has had enough before the hub was done. */
  leave(): void;
  /** The reader has taken so many chunks in total. */
  grant(consumed: number): void;
}

/** The receiving side of a {@link ResultStream}. */
export class ChunkStream<T, R> implements ResultStream<T, R>, AsyncIterator<StreamChunk<T>, undefined>, Sink {
  readonly #result: Promise<R>;
  readonly #queue = new AsyncQueue<WireChunk>();
  readonly #reader: Reader;
  #settle!: { resolve(result: R): void; reject(error: unknown): void };
  #expected = 0;
  #complete = false;
  #items = 0;
  #units = 0;
  /** Length of what is queued, in UTF-16 units. */
  #queued = 0;
  /** Whether the result is wanted, and nobody reads what comes before it. */
  #isResultAll: boolean | undefined;
  #isDropping = false;

  constructor(reader: Reader) {
    this.#reader = reader;
    this.#result = new Promise<R>((resolve, reject) => {
      this.#settle = { resolve, reject };
    });
    this.#result.catch(() => {
      // Looked at here once, so that nobody has to.
    });
  }

  get result(): Promise<R> {
    this.#isResultAll ??= true;
    this.#drain();
    return this.#result;
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
      this.#queued += chunk.units;
      this.#queue.push(chunk);
      this.#drain();
    }
    return undefined;
  }

  /** The ordinary reply. A method that is no stream has no chunks and no final one either. */
  resolve(result: unknown): ProtocolError | UsageError | undefined {
    if (!this.#complete) {
      return this.#expected > 0
        ? new ProtocolError(`the stream ended after ${this.#expected} chunks, none of them final`)
        : new UsageError(`${this.#reader.method} is no stream: use call()`, result);
    }
    this.#settle.resolve(result as R);
    this.#queue.end();
    return undefined;
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
    if (this.#isDropping) {
      throw new UsageError(`chunks of ${this.#reader.method} were dropped: only its result was asked for`);
    }
    this.#isResultAll = false;
    try {
      const result = await this.#queue.next();
      if (result.done === true) {
        return result;
      }
      const { type, data, index, units } = result.value;
      this.#queued -= units;
      this.#consume(index + 1, units);
      return { done: false, value: { type, data: data as T, index } };
    } catch (error) {
      throw located(error);
    }
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

  /** Drops what nobody will read, once the method waits for that. */
  #drain(): void {
    if (this.#isResultAll !== true) {
      return;
    }
    const { items, bytes } = this.#reader.window;
    this.#isDropping ||= this.#queue.size >= Math.min(items, MAX_ITEMS) || this.#queued * 3 >= Math.min(bytes, MAX_BYTES);
    while (this.#isDropping && this.#queue.size > 0) {
      const { index, units } = this.#queue.shift() as WireChunk;
      this.#consume(index + 1, units);
    }
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
