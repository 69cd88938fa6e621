/**
 * The requests in flight, by id. Whoever takes a request out of the table settles it: that is why every request
 * is settled exactly once.
 */
import { notification } from "./encode.js";
import { DisconnectedError, putOffMs } from "./errors.js";
import type { CloseInfo } from "./hub.js";
import type { Link } from "./link.js";
import type { SessionEnd, WireError } from "./messages.js";
import type { AttemptOptions } from "./retrier.js";
import { abortedError, Request, type Call, type Sink } from "./request.js";

export { callOf, leftError, type Call } from "./request.js";

/** How many ids of abandoned requests are remembered, so that a hub that never answers them costs no memory. */
const MAX_ABANDONED = 1_000;

/** It concerned a connection that is gone: to be asked again on the next one, if it is still wanted. */
export class CutError extends DisconnectedError {}

export class Requests {
  readonly #link: Link;
  readonly #warn: (message: string) => void;
  readonly #inFlight = new Map<number, Request>();
  readonly #abandoned = new Set<number>();
  #lastId = 0;

  constructor(link: Link, warn: (message: string) => void) {
    this.#link = link;
    this.#warn = warn;
  }

  /**
   * Sends a request, or lets it wait for a connection; `sink` gets its outcome.
   *
   * @throws TypeError if an option cannot be sent.
   */
  start(call: Call, options: AttemptOptions, sink: Sink): Request {
    this.#lastId += 1;
    const request = new Request(this.#lastId, call, options, sink, this);
    try {
      if (options.signal?.aborted === true) {
        throw abortedError(options.signal, false);
      }
      this.#link.admit(request.packed);
    } catch (error) {
      request.unwatch();
      request.reject(error);
      return request;
    }
    // No reply can be missed between these two: sockets deliver from the event loop only.
    this.#link.send(request);
    this.#inFlight.set(request.id, request);
    request.watch();
    return request;
  }

  /** Ends a request before its reply: cancels it at the hub and rejects it. Without effect once it is settled. */
  giveUp(request: Request, error: unknown): void {
    const { id } = request;
    if (this.#inFlight.get(id) !== request) {
      return;
    }
    this.#take(id);
    if (request.isWritten) {
      this.#abandoned.add(id);
      const [oldest] = this.#abandoned;
      if (oldest !== undefined && this.#abandoned.size > MAX_ABANDONED) {
        this.#abandoned.delete(oldest);
      }
      this.tell("$/cancelRequest", { id });
    } else {
      this.#link.withdraw(request);
    }
    request.reject(error);
  }

  /** Sends a notification that means something to this session only. */
  tell(method: string, params: object): void {
    this.push(notification(method, params));
  }

  whyNot(): Error | undefined {
    return this.#link.failure;
  }

  /**
   * Sends a message that means something to this session only; gives the length of its frame.
   *
   * @throws TypeError if it cannot be sent.
   * @throws RpcError if the hub would not take it.
   */
  push(message: object): number {
    const packed = this.#link.codec.encode(message);
    this.#link.size.check(packed);
    this.#link.send({ packed, isNumbered: true, isLasting: false });
    return packed.length;
  }

  /** The reader of a stream has taken so many chunks. */
  grant(request: Request, consumed: number): void {
    if (this.#inFlight.get(request.id) === request) {
      this.tell("stream.credit", { request_id: request.id, consumed });
    }
  }

  get(id: number): Request | undefined {
    return this.#inFlight.get(id);
  }

  /** The request that `what` is for; whatever is for none, and not merely late, makes no sense. */
  lookUp(id: number, what: string): Request | undefined {
    const request = this.#inFlight.get(id);
    if (request === undefined && !this.#abandoned.has(id)) {
      this.#warn(`${what} for ${id}, which is not in flight`);
    }
    return request;
  }

  /** The reply to a request came: gives whose outcome it is. */
  replied(id: number): Request | undefined {
    this.lookUp(id, "a reply");
    this.#abandoned.delete(id);
    return this.#take(id);
  }

  /** The hub takes nothing new: whether the request waits for the next one, as if there were no connection. */
  hold(id: number): boolean {
    const request = this.#inFlight.get(id);
    return request?.mayWait === true && this.#keep(request);
  }

  /** The hub cannot take it yet: whether it is put to it again after a while. That is no attempt of a retry policy. */
  putOff(id: number, error: WireError): boolean {
    const request = this.#inFlight.get(id);
    const delayMs = putOffMs(error);
    if (delayMs === undefined || request?.mayWait !== true) {
      return false;
    }
    request.late(false, error.message);
    request.after(delayMs, () => {
      this.#link.send(request, true);
    });
    return true;
  }

  #keep(request: Request): boolean {
    request.late(false);
    return this.#link.hold(request);
  }

  /** The longest request that was sent, of all or of those that no session keeps. */
  longest(ofAll: boolean): Request | undefined {
    let longest: Request | undefined;
    for (const request of this.#inFlight.values()) {
      const isOne = request.isWritten && (ofAll || !request.isNumbered);
      if (isOne && request.packed.length > (longest?.packed.length ?? 0)) {
        longest = request;
      }
    }
    return longest;
  }

  /** The socket is gone: what concerns only one connection is asked again on the next, or not needed any more. */
  cut(end: CloseInfo): void {
    for (const request of this.#inFlight.values()) {
      if (request.isWritten && !request.isNumbered) {
        this.#take(request.id);
        request.reject(new CutError(end, false));
      }
    }
  }

  /** Nothing that was sent will be answered; what no hub has read goes to the next one. */
  lost(end: CloseInfo, sessionEnd: SessionEnd | undefined, unread: ReadonlySet<number>): void {
    for (const request of this.#inFlight.values()) {
      const isUnread = request.isLasting && request.feed === undefined && unread.has(request.id);
      if ((request.isWritten && !(isUnread && this.#keep(request))) || !request.isLasting) {
        this.#take(request.id);
        const fate = sessionEnd && `its session could not be resumed (${sessionEnd}), so that it may have been executed`;
        request.reject(new DisconnectedError(end, true, fate, sessionEnd));
      }
    }
    this.#abandoned.clear();
  }

  /** Closed for good: nothing that waits will be sent. */
  ended(end: CloseInfo): void {
    for (const request of this.#inFlight.values()) {
      this.#take(request.id);
      request.reject(new DisconnectedError(end, false));
    }
  }

  #take(id: number): Request | undefined {
    const request = this.#inFlight.get(id);
    this.#inFlight.delete(id);
    request?.unwatch();
    return request;
  }
}
