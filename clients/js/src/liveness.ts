/**
 * Notices that nothing comes any more. Browsers cannot send pings, and a cable that was pulled says nothing.
 */
export interface LivenessUser {
  ping(): void;
  /** The answer did not come. */
  dead(): void;
}

export class Liveness {
  readonly #limits: { readonly pingIntervalMs: number; readonly pingTimeoutMs: number };
  readonly #user: LivenessUser;
  #heard = 0;
  #timer: ReturnType<typeof setTimeout> | undefined;

  /** Pings after `pingIntervalMs` of silence; then something has to come within `pingTimeoutMs`. */
  constructor(limits: { readonly pingIntervalMs: number; readonly pingTimeoutMs: number }, user: LivenessUser) {
    this.#limits = limits;
    this.#user = user;
  }

  /** Something came. */
  heard(): void {
    this.#heard = performance.now();
  }

  start(): void {
    this.heard();
    this.#check();
  }

  stop(): void {
    clearTimeout(this.#timer);
  }

  /** Asks now. */
  probe(): void {
    this.stop();
    const asked = performance.now();
    this.#timer = setTimeout(() => {
      if (this.#heard < asked) {
        this.#user.dead();
      } else {
        this.#check();
      }
    }, this.#limits.pingTimeoutMs);
    this.#user.ping();
  }

  readonly #check = (): void => {
    const left = this.#heard + this.#limits.pingIntervalMs - performance.now();
    if (left > 0) {
      this.#timer = setTimeout(this.#check, left);
    } else {
      this.probe();
    }
  };
}
