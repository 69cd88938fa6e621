/**
 * Makes calls, and makes them again where that is safe.
 */
import { onAbort } from "./aborts.js";
import { located, RpcError, TrunklineError } from "./errors.js";
import type { Link } from "./link.js";
import type { RetryPolicy, StreamOptions } from "./options.js";
import { CutError } from "./requests.js";
import { retryDelay } from "./retry.js";
import { MAX_TIMER_MS } from "./timeouts.js";

/** How a call may be repeated. */
export interface Repetition {
  readonly policy: RetryPolicy;
  readonly hasKey: boolean;
}

/** The longest that a call without a timeout waits because the hub says so: the hub's own deadline for a call. */
const MAX_HINT_MS = 30_000;

/** Options of one attempt. */
export interface AttemptOptions extends StreamOptions {
  /** Only the hub of now knows its idempotency key, and may have run it. */
  readonly isForOneHub?: boolean;
  /** It is a repetition: the hub of this epoch may have run it, and another one is to refuse it. */
  readonly idempotencyEpoch?: string | undefined;
  /** Called when it is written. */
  readonly onSent?: (() => void) | undefined;
  /** Whether a hub that is stopping may put it off until the next connection. */
  readonly mayWait?: boolean;
}

/** Which memory of idempotency keys has a call that may have run. */
class KeyMemory {
  /** Of the first attempt that may have run; undefined where the hub told none. */
  epoch: string | undefined;
  readonly #link: Link;
  readonly #isAsked: boolean;
  #sentTo: string | undefined;

  /** `isAsked`: whether the call has a key that another hub must not take. */
  constructor(link: Link, isAsked: boolean) {
    this.#link = link;
    this.#isAsked = isAsked;
  }

  readonly onSent = (): void => {
    this.#sentTo = this.#link.epoch;
  };

  /** An attempt failed: whether the next hub can be told which one may have run it. */
  note(error: unknown): boolean {
    if (this.#isAsked && error instanceof TrunklineError && error.maybeExecuted) {
      this.epoch ??= this.#sentTo;
    }
    return this.epoch !== undefined;
  }
}

export class Retrier {
  readonly #link: Link;
  readonly #sleepers = new Set<() => void>();

  constructor(link: Link) {
    this.#link = link;
  }

  /** Runs attempts until one succeeds or no more are due; `timeoutMs` limits all of them together. */
  async run<R>(
    options: AttemptOptions,
    { policy, hasKey }: Repetition,
    attempt: (options: AttemptOptions) => Promise<R>,
  ): Promise<R> {
    const { timeoutMs = Infinity, idempotent = false, signal } = options;
    const giveUpAt = performance.now() + timeoutMs;
    const keys = new KeyMemory(this.#link, hasKey && !idempotent);
    let current = options;
    let maybeExecuted = false;
    for (let n = 1; ; ) {
      try {
        // oxlint-disable-next-line no-await-in-loop -- one attempt after the other
        return await attempt({ ...current, onSent: keys.onSent });
      } catch (error) {
        const isCut = error instanceof CutError;
        const call = { isIdempotent: idempotent, hasKey, hasEpoch: keys.note(error) };
        const delayMs = isCut ? 0 : retryDelay(error, n, policy, call);
        maybeExecuted = notingEarlier(error, maybeExecuted);
        if (delayMs === undefined || this.#link.end !== undefined || isTooLate(error, delayMs, giveUpAt)) {
          throw located(error);
        }
        n += Number(!isCut);
        const isForOneHub = maybeExecuted && !idempotent && !call.hasEpoch;
        // oxlint-disable-next-line no-await-in-loop
        if (!(await this.#sameHub(delayMs, signal)) && isForOneHub) {
          throw located(error);
        }
        current = { ...options, isForOneHub, idempotencyEpoch: keys.epoch, timeoutMs: timeLeft(giveUpAt) };
      }
    }
  }

  /** Waits; whether the hub is surely the same then. Another one does not know the key: it would do again what may have been done. */
  async #sameHub(delayMs: number, signal?: AbortSignal): Promise<boolean> {
    const { hub } = this.#link;
    await this.backOff(delayMs, signal);
    return hub === this.#link.hub;
  }

  /** Closed for good: there is nothing to wait for. */
  wakeAll(): void {
    for (const wake of this.#sleepers) {
      wake();
    }
  }

  /** Waits; ends early when there is nothing to wait for any more, which the next attempt says. */
  async backOff(delayMs: number, signal?: AbortSignal): Promise<void> {
    await new Promise<void>((resolve) => {
      const wake = (): void => {
        clearTimeout(timer);
        stop();
        this.#sleepers.delete(wake);
        resolve();
      };
      const timer = setTimeout(wake, Math.min(delayMs, MAX_TIMER_MS));
      this.#sleepers.add(wake);
      const stop = onAbort(signal, wake);
    });
  }
}

/** Whether the next attempt would come too late for its caller. */
function isTooLate(error: unknown, delayMs: number, giveUpAt: number): boolean {
  const hintMs = error instanceof RpcError ? (error.retryAfterMs ?? 0) : 0;
  return giveUpAt === Infinity ? hintMs > MAX_HINT_MS : performance.now() + delayMs >= giveUpAt;
}

/** At least a millisecond; undefined if there is no end. */
function timeLeft(giveUpAt: number): number | undefined {
  return giveUpAt === Infinity ? undefined : Math.max(1, giveUpAt - performance.now());
}

/** `maybeExecuted` speaks of the call, not of its last attempt. */
function notingEarlier(error: unknown, maybeExecuted: boolean): boolean {
  if (!(error instanceof TrunklineError)) {
    return maybeExecuted;
  }
  const writable: { maybeExecuted: boolean } = error;
  return (writable.maybeExecuted ||= maybeExecuted);
}
