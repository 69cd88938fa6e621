/**
 * Time in tests: nothing is waited for by the clock where there is an event, and what never comes is told.
 */
import type { TestContext } from "node:test";

// As they are, whatever a test makes of the global ones: see stoppedClock.
const { setTimeout: later, clearTimeout: never } = globalThis;

const SCALE = Number(process.env.TEST_TIMEOUT_SCALE ?? "1");

/** How long anything may take on a slow machine, in milliseconds: only what never comes takes so long. */
export const PATIENCE = 30_000 * SCALE;

/** How much sooner than it was told a timer of Node's may fire, in milliseconds: of delays and of its clock it counts whole ones only. */
export const EARLY_MS = 2;

/**
 * Stops the clock of a test: to what is tested time passes only by the function returned, in milliseconds, so that nothing it does
 * with time depends on how long this process stands still. Sockets go on, and so does what this file waits for. To be called
 * before a client is made: a timer that runs already would run on.
 */
export function stoppedClock(t: TestContext): (ms: number) => void {
  let now = Math.ceil(performance.now());
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const { clearTimeout: stop } = globalThis;
  t.mock.method(globalThis, "clearTimeout", (timer: NodeJS.Timeout | undefined) => {
    // One of an earlier test, whose connection is only now seen to be gone: it would keep the process.
    never(timer);
    stop(timer);
  });
  t.mock.method(performance, "now", () => now);
  return (ms) => {
    now += ms;
    t.mock.timers.tick(ms);
  };
}

/** Waits so many milliseconds. */
export function pause(ms: number): Promise<void> {
  return new Promise((resolve) => {
    later(resolve, ms);
  });
}

/** Waits for what has no event. Put a limit around it: {@link within}. */
export async function until(isTrue: () => boolean): Promise<void> {
  while (!isTrue()) {
    await pause(5);
  }
}

/** A number that grows, once it has not for a while, or when it reaches `limit`. */
export async function settled(read: () => number, limit: number): Promise<number> {
  for (let before = -1; ; ) {
    const now = read();
    if (now === before || now >= limit) {
      return now;
    }
    before = now;
    await pause(200);
  }
}

/** The promise's outcome, or a rejection that says what did not happen in {@link PATIENCE}. */
export async function within<T>(what: string, promise: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = later(() => {
      reject(new Error(`not within ${PATIENCE} ms: ${what}`));
    }, PATIENCE);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    never(timer);
  }
}
