/**
 * The hub's clock against this page's: what comes late must not look new.
 */
const SAMPLES = 30;

export class Skew {
  #samples: number[] = [];

  /** A time of the hub's as one of this page's: the quickest message of the last half minute was not under way at all. */
  local(hubTime: number, arrivedAt: number): number {
    this.#samples = [...this.#samples, arrivedAt - hubTime].slice(-SAMPLES);
    return hubTime + Math.min(...this.#samples);
  }

  /** Another hub may have another clock. */
  reset(): void {
    this.#samples = [];
  }
}
