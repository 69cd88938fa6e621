/**
 * A result that comes in pieces.
 */
import { ERROR_CODES } from "./codes.js";
import { CancelledError, ProtocolError } from "./errors.js";
import type { WireChunk } from "./messages.js";
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
 * There is one sequence of chunks: two loops over the same stream share it. Chunks wait in memory until they
 * are read.
 */
export interface ResultStream<T = unknown, R = unknown> extends AsyncIterable<StreamChunk<T>> {
  /** The reply that follows the last chunk. Ignoring it is fine: it never causes an unhandled rejection. */
  readonly result: Promise<R>;
}

/** The receiving side of a {@link ResultStream}. */
export class ChunkStream<T, R> implements ResultStream<T, R>, AsyncIterator<StreamChunk<T>, undefined>, Sink {
  readonly result: Promise<R>;
  readonly #queue = new AsyncQueue<StreamChunk<T>>();
  readonly #signal: AbortSignal | undefined;
  readonly #leave: (error: CancelledError) => void;
  #settle!: { resolve(result: R): void; reject(error: unknown): void };
  #expected = 0;
  #complete = false;

  /** `leave` is called when the reader has had enough before the hub was done. */
  constructor(signal: AbortSignal | undefined, leave: (error: CancelledError) => void) {
    this.#signal = signal;
    this.#leave = leave;
    this.result = new Promise<R>((resolve, reject) => {
      this.#settle = { resolve, reject };
    });
    this.result.catch(() => {
      // Looked at here once, so that nobody has to.
    });
  }

  /** Takes the next chunk; an error means that it is not the next one. */
  chunk(chunk: WireChunk): ProtocolError | undefined {
    const { type, data, index, isFinal } = chunk;
    if (this.#complete) {
      return new ProtocolError(`gap in the stream: chunk ${index} came after the final one`);
    }
    if (index !== this.#expected) {
      return new ProtocolError(`gap in the stream: chunk ${this.#expected} was due, chunk ${index} came`);
    }
    if (isFinal) {
      this.#complete = true;
    } else {
      this.#expected += 1;
      this.#queue.push({ type, data: data as T, index });
    }
    return undefined;
  }

  /** The ordinary reply. A method that is no stream has no chunks and no final one either. */
  resolve(result: unknown): void {
    if (this.#expected > 0 && !this.#complete) {
      this.reject(new ProtocolError(`gap in the stream: it ended after ${this.#expected} chunks, none of them final`));
      return;
    }
    this.#settle.resolve(result as R);
    this.#queue.end();
  }

  reject(error: unknown): void {
    if (this.#signal?.aborted === true) {
      // Whoever aborts wants nothing more, not even what is here already.
      this.#queue.clear();
    }
    this.#settle.reject(error);
    this.#queue.fail(error);
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  next(): Promise<IteratorResult<StreamChunk<T>, undefined>> {
    return this.#queue.next();
  }

  /** Called by `for await` when its body is left early. */
  return(): Promise<IteratorResult<StreamChunk<T>, undefined>> {
    this.#queue.clear();
    this.#queue.end();
    if (!this.#complete) {
      this.#leave(new CancelledError({ code: ERROR_CODES.CANCELLED, message: "the reader left the stream" }));
    }
    return Promise.resolve({ done: true, value: undefined });
  }
}
