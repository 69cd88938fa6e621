/**
 * Values pushed at one end and awaited at the other.
 */
export class AsyncQueue<T> {
  // Pushed onto one array, popped off the other, turned over when empty: no shifting of long arrays.
  #arrived: T[] = [];
  #ready: T[] = [];
  #waiting: Waiter<T>[] = [];
  #ended = false;
  #failure: { readonly error: unknown } | undefined;

  /** Adds a value. Ignored after the end. */
  push(value: T): void {
    if (this.#ended) {
      return;
    }
    const waiter = this.#waiting.shift();
    if (waiter === undefined) {
      this.#arrived.push(value);
    } else {
      waiter.resolve({ done: false, value });
    }
  }

  /** No more values: readers get what is queued, then `done`. Only the first of `end` and `fail` counts. */
  end(): void {
    this.#ended = true;
    for (const waiter of this.#waiting.splice(0)) {
      waiter.resolve(DONE);
    }
  }

  /** No more values: readers get what is queued, then `error` once, then `done`. */
  fail(error: unknown): void {
    if (this.#ended) {
      return;
    }
    const waiter = this.#waiting.shift();
    if (waiter === undefined) {
      this.#failure = { error };
    } else {
      waiter.reject(error);
    }
    this.end();
  }

  /** Drops what is queued, a failure included. */
  clear(): void {
    this.#arrived = [];
    this.#ready = [];
    this.#failure = undefined;
  }

  /** How many values are queued. */
  get size(): number {
    return this.#arrived.length + this.#ready.length;
  }

  /** Takes the oldest value without waiting; undefined if none is queued. */
  shift(): T | undefined {
    if (this.#ready.length === 0) {
      this.#ready = this.#arrived.reverse();
      this.#arrived = [];
    }
    return this.#ready.pop();
  }

  /** The next value, as an async iterator gives it. */
  next(): Promise<IteratorResult<T, undefined>> {
    if (this.size > 0) {
      return Promise.resolve({ done: false, value: this.shift() as T });
    }
    if (this.#failure !== undefined) {
      const { error } = this.#failure;
      this.#failure = undefined;
      return Promise.reject(error);
    }
    if (this.#ended) {
      return Promise.resolve(DONE);
    }
    return new Promise((resolve, reject) => {
      this.#waiting.push({ resolve, reject });
    });
  }
}

interface Waiter<T> {
  resolve(result: IteratorResult<T, undefined>): void;
  reject(error: unknown): void;
}

const DONE = { done: true, value: undefined } as const;
