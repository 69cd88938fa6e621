/**
 * When to start a hub again, and when to give it up.
 */
import { fullJitter } from "../backoff.js";
import type { RestartLimits } from "./options.js";

/** The next attempt. */
export interface Attempt {
  /** Counts from 1. */
  readonly attempt: number;
  readonly delayMs: number;
}

/** Counts the ends of a hub that did not stay up. */
export class Restarts {
  #failures = 0;
  readonly #limits: RestartLimits;
  readonly #random: () => number;

  constructor(limits: RestartLimits, random: () => number = Math.random) {
    this.#limits = limits;
    this.#random = random;
  }

  /**
   * The hub ended.
   *
   * @param upMs how long it had been up, in milliseconds; 0 if it did not come up.
   * @returns undefined: it is given up.
   */
  next(upMs: number): Attempt | undefined {
    this.#failures = upMs >= this.#limits.maxMs ? 1 : this.#failures + 1;
    if (this.#failures > this.#limits.maxFailures) {
      return undefined;
    }
    return { attempt: this.#failures, delayMs: Math.round(fullJitter(this.#failures - 1, this.#limits, this.#random)) };
  }
}
