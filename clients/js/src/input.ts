/**
 * What a caller feeds to a running call, item by item, and never too far ahead of the method that takes it.
 */
import { notification } from "./encode.js";
import { Room } from "./room.js";

/** So many items may be ahead of what the method has taken, ... */
const MAX_ITEMS = 64;

/** ... or so many bytes; counted in units of length, of which none is more than 3 bytes. */
const MAX_UNITS = 262_144 / 3;

/** An input: anything `for await` takes. */
export type Input = AsyncIterable<unknown> | Iterable<unknown>;

export class Feed {
  /** What the method has not taken yet. */
  readonly room = new Room(MAX_ITEMS, MAX_UNITS);
  readonly #iterator: AsyncIterator<unknown, unknown> | Iterator<unknown, unknown>;
  readonly #requestId: number;
  readonly #send: (message: object) => number;

  /**
   * `send` gets `stream.push` messages, and gives the length of their frames.
   *
   * @throws TypeError if it is no input.
   */
  constructor(input: Input, requestId: number, send: (message: object) => number) {
    if (typeof input !== "object") {
      throw new TypeError("input has to be iterable");
    }
    this.#iterator = Symbol.asyncIterator in input ? input[Symbol.asyncIterator]() : input[Symbol.iterator]();
    this.#requestId = requestId;
    this.#send = send;
  }

  /** Reads to the end; `fail` gets what the input throws, or what cannot be sent. */
  async run(fail: (error: unknown) => void): Promise<void> {
    try {
      for (let index = 0, isFinal = false; !isFinal && this.room.isOpen; index += 1) {
        // oxlint-disable-next-line no-await-in-loop -- one item after the other
        const { done, value } = await this.#iterator.next();
        isFinal = done === true;
        // oxlint-disable-next-line no-await-in-loop
        await this.#push(index, isFinal ? { is_final: true } : { data: await value });
      }
    } catch (error) {
      if (this.room.isOpen) {
        fail(error);
      }
    }
  }

  /** The call is over: the input is told so by its `return()`. */
  async stop(): Promise<void> {
    this.room.close();
    try {
      await this.#iterator.return?.();
    } catch {
      // The call has its outcome; what the input says on leaving changes nothing.
    }
  }

  async #push(index: number, item: { data?: unknown; is_final?: true }): Promise<void> {
    if (await this.room.wait()) {
      this.room.add(this.#send(notification("stream.push", { request_id: this.#requestId, index, ...item })));
    }
  }
}
