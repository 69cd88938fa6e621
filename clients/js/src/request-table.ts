/**
 * The requests in flight, by id. Whoever takes a request out of the table settles it: that is why every request
 * is settled exactly once.
 */
import type { Request } from "./request.js";

/** How many ids of abandoned requests are remembered, so that a hub that never answers them costs no memory. */
const MAX_ABANDONED = 1_000;

export class RequestTable {
  readonly #inFlight = new Map<number, Request>();
  readonly #abandoned = new Set<number>();
  #lastId = 0;

  /** A fresh id: 1, 2, 3, ... */
  nextId(): number {
    this.#lastId += 1;
    return this.#lastId;
  }

  add(request: Request): void {
    this.#inFlight.set(request.id, request);
    request.watch();
  }

  get(id: number): Request | undefined {
    return this.#inFlight.get(id);
  }

  /** Removes a request. The caller has to settle it. */
  take(id: number): Request | undefined {
    const request = this.#inFlight.get(id);
    if (request !== undefined) {
      this.#inFlight.delete(id);
      request.unwatch();
    }
    return request;
  }

  /** Removes a request the hub still works on. The caller has to settle it; its late reply is expected. */
  abandon(id: number): Request | undefined {
    const request = this.take(id);
    if (request !== undefined) {
      this.#abandoned.add(id);
      this.#forgetOldest();
    }
    return request;
  }

  /** Whether messages about this id are late, not wrong. */
  isAbandoned(id: number): boolean {
    return this.#abandoned.has(id);
  }

  /** The late reply came: whether it was expected. */
  forget(id: number): boolean {
    return this.#abandoned.delete(id);
  }

  /** Removes all requests. The caller has to settle them. */
  takeAll(): Request[] {
    const requests = [...this.#inFlight.values()];
    for (const { id } of requests) {
      this.take(id);
    }
    return requests;
  }

  #forgetOldest(): void {
    const [oldest] = this.#abandoned;
    if (oldest !== undefined && this.#abandoned.size > MAX_ABANDONED) {
      this.#abandoned.delete(oldest);
    }
  }
}
