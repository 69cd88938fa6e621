/**
 * When to dial again.
 */
import { NOT_AUTHENTICATED, REFUSED } from "./codes.js";
import { AuthenticationError, type ConnectError } from "./errors.js";
import type { CloseInfo } from "./hub.js";
import { PAUSES, type Pauses, type Settings } from "./settings.js";
import { onWake } from "./wake.js";

export interface RedialUser {
  dial(): void;
  /** The network or the page came back, and there is nothing to dial. */
  awake(): void;
}

export class Redial {
  readonly #pauses: Pauses;
  readonly #user: RedialUser;
  readonly #stopWaking: () => void;
  #timer: ReturnType<typeof setTimeout> | undefined;
  /** Attempts since there was a connection. */
  attempts = 0;
  /** When the connection was lost, by `performance.now()`. */
  #since = 0;

  constructor(pauses: Pauses | undefined, user: RedialUser) {
    this.#pauses = pauses ?? PAUSES;
    this.#user = user;
    this.#stopWaking = onWake(() => {
      if (this.#timer === undefined) {
        user.awake();
      } else {
        this.#now();
      }
    });
  }

  /** There is a connection. */
  reset(): void {
    this.attempts = 0;
  }

  /** Dials after a while, between these limits, or when the network comes back: in how many milliseconds. */
  later(atLeastMs = 0, atMostMs = Infinity): number {
    const now = performance.now();
    if (this.attempts === 0) {
      this.#since = now;
    }
    const delayMs = Math.min(Math.max(pauseMs(now - this.#since, this.#pauses), atLeastMs), atMostMs);
    this.attempts += 1;
    this.#timer = setTimeout(() => {
      this.#now();
    }, delayMs);
    return delayMs;
  }

  stop(): void {
    clearTimeout(this.#timer);
    this.#stopWaking();
  }

  #now(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#user.dial();
  }
}

/** Whether the hub would say the same again: a token function may give another one by then. */
export function isFinal({ code }: CloseInfo, error: ConnectError | undefined, { token }: Settings): boolean {
  const mayDiffer = typeof token === "function" && (code === NOT_AUTHENTICATED || code === REFUSED);
  return error?.cause instanceof AuthenticationError || error?.isHopeless === true || (code >= 4500 && code < 5000 && !mayDiffer);
}

/**
 * How long to wait before the next attempt, in milliseconds: a random part of what the outage has lasted. Its double is what
 * anybody is away at most, and who had several early failures has not spent its short pauses.
 */
export function pauseMs(awayMs: number, { minMs, maxMs }: Pauses, random = Math.random): number {
  return random() * Math.min(Math.max(awayMs, minMs), maxMs);
}
