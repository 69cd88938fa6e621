/**
 * When to dial again.
 */
import { fullJitter, type Backoff } from "./backoff.js";
import { onWake } from "./wake.js";

export interface RedialUser {
  dial(): void;
  /** The network or the page came back, and there is nothing to dial. */
  awake(): void;
}

export class Redial {
  readonly #policy: Backoff;
  readonly #user: RedialUser;
  readonly #stopWaking: () => void;
  #timer: ReturnType<typeof setTimeout> | undefined;
  /** Attempts since there was a connection. */
  attempts = 0;

  constructor(policy: Backoff, user: RedialUser) {
    this.#policy = policy;
    this.#user = user;
    this.#stopWaking = onWake(() => {
      if (this.#timer === undefined) {
        user.awake();
      } else {
        this.#now();
      }
    });
  }

  /** Dials after a while, or when the network comes back: in how many milliseconds. */
  later(): number {
    const delayMs = fullJitter(this.attempts, this.#policy);
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
