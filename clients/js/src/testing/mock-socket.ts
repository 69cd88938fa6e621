/**
 * A WebSocket without a network: what a client sends, a mock hub is given in the next turn of the event loop, and the other way
 * round.
 */
import type { Packed } from "../codec.js";
import type { WebSocketLike } from "../index.js";

const OPEN = 1;
const CLOSED = 3;

/** The far end of a {@link MockSocket}. */
export interface FarEnd {
  opened(socket: MockSocket): void;
  received(text: string): void;
  /** The client closed, or the connection was cut. */
  gone(): void;
}

type Listener = (event: never) => void;

export class MockSocket implements WebSocketLike {
  readyState = 0;
  protocol = "";
  readonly #far: FarEnd;
  /** What is on its way is lost. */
  #isCut = false;
  readonly #listeners = new Map<string, Listener[]>();

  /** `refusal`: why no connection comes about, if it does not. */
  constructor(far: FarEnd, protocol: string, refusal: { readonly code: number; readonly reason: string } | undefined) {
    this.#far = far;
    setTimeout(() => {
      if (this.readyState === CLOSED) {
        return;
      }
      if (refusal === undefined) {
        this.readyState = OPEN;
        this.protocol = protocol;
        far.opened(this);
        this.#tell("open", {});
      } else {
        this.end(refusal.code, refusal.reason);
      }
    });
  }

  addEventListener(type: string, listener: Listener): void {
    this.#listeners.set(type, [...(this.#listeners.get(type) ?? []), listener]);
  }

  /** The client sends. */
  send(data: Packed): void {
    setTimeout(() => {
      if (this.readyState === OPEN) {
        this.#far.received(data as string);
      }
    });
  }

  /** The client closes. */
  close(code = 1000, reason = ""): void {
    this.end(code, reason);
  }

  /** The hub sends; `delayMs` later. */
  deliver(frame: Packed, delayMs: number): void {
    setTimeout(() => {
      if (!this.#isCut) {
        this.#tell("message", { data: frame });
      }
    }, delayMs);
  }

  /** The connection ends: by a close frame with this code, or 1006 for a cut. */
  end(code: number, reason: string, delayMs = 0): void {
    if (this.readyState !== CLOSED) {
      this.readyState = CLOSED;
      this.#isCut = code === 1006;
      this.#far.gone();
      setTimeout(() => {
        this.#tell("close", { code, reason });
      }, delayMs);
    }
  }

  #tell(type: string, event: object): void {
    for (const listener of this.#listeners.get(type) ?? []) {
      listener(event as never);
    }
  }
}
