/**
 * How far a sender may be ahead of who takes what it sends.
 */
export class Room {
  /** Whether there is anything to send for. */
  isOpen = true;
  readonly #maxItems: number;
  readonly #maxUnits: number;
  /** Lengths of what was not taken yet, oldest first. */
  readonly #ahead: number[] = [];
  #units = 0;
  #consumed = 0;
  #wake: (() => void) | undefined;

  /** So many items may be ahead, or so long ones together (UTF-16 units); one item always may. */
  constructor(maxItems: number, maxUnits = Infinity) {
    this.#maxItems = maxItems;
    this.#maxUnits = maxUnits;
  }

  /** Whether one more may be sent. */
  get hasRoom(): boolean {
    return this.#ahead.length < this.#maxItems && this.#units < this.#maxUnits;
  }

  /** Waits until one more may be sent. False if it is closed. */
  async wait(): Promise<boolean> {
    while (this.isOpen && !this.hasRoom) {
      // oxlint-disable-next-line no-await-in-loop -- until there is credit
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
    return this.isOpen;
  }

  /** One more is sent. */
  add(units: number): void {
    this.#ahead.push(units);
    this.#units += units;
  }

  /** So many items were taken in total. */
  credit(consumed: number): void {
    for (; this.#consumed < consumed && this.#ahead.length > 0; this.#consumed += 1) {
      this.#units -= this.#ahead.shift() ?? 0;
    }
    this.#wake?.();
  }

  close(): void {
    this.isOpen = false;
    this.#wake?.();
  }
}
