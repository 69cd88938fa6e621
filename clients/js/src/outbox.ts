/**
 * Frames that cannot be written now, in the order they came, a bounded number of them. Pure.
 */

import type { Packed } from "./codec.js";

/** One message on its way to the hub. */
export interface Frame {
  readonly packed: Packed;
  /** Whether it is part of the session: kept, and sent again after a cut. */
  readonly isNumbered: boolean;
  /** Whether it means something to another session as well: a call does, an answer to one does not. */
  readonly isLasting: boolean;
  /** Called just before it is written for the first time; `isLate` if it had to wait. */
  onWrite?(isLate: boolean): void;
  /** Called instead where the hub that there is now would not take it. */
  refused?(error: unknown): void;
}

export class Outbox {
  readonly #waiting = new Set<Frame>();
  readonly #maxFrames: number;
  readonly #maxUnits: number;
  #units = 0;

  constructor(maxFrames: number, maxUnits: number) {
    this.#maxFrames = maxFrames;
    this.#maxUnits = maxUnits;
  }

  add(frame: Frame): void {
    this.#waiting.add(frame);
    this.#units += frame.packed.length;
  }

  /** Takes a frame back. Without effect if it does not wait here. */
  delete(frame: Frame): void {
    if (this.#waiting.delete(frame)) {
      this.#units -= frame.packed.length;
    }
  }

  /** Takes all out, oldest first. */
  takeAll(): readonly Frame[] {
    const frames = [...this.#waiting];
    this.#waiting.clear();
    this.#units = 0;
    return frames;
  }

  /** The session is gone: drops what only that one understands. */
  loseSession(): void {
    for (const frame of this.#waiting) {
      if (!frame.isLasting) {
        this.delete(frame);
      }
    }
  }

  /**
   * Whether there is room for one more, next to what waits here and what is `kept` elsewhere: the name and size of the
   * limit that says no, or undefined.
   */
  limitFor(units: number, kept: { readonly frames: number; readonly units: number } | undefined): string | undefined {
    if (this.#waiting.size + (kept?.frames ?? 0) >= this.#maxFrames) {
      return `maxQueued (${this.#maxFrames})`;
    }
    if (this.#units + (kept?.units ?? 0) + units > this.#maxUnits) {
      return `maxQueuedBytes (${this.#maxUnits})`;
    }
    return undefined;
  }
}
