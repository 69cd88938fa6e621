/**
 * Time in tests: nothing is waited for by the clock where there is an event, and what never comes is told.
 */
const SCALE = Number(process.env.TEST_TIMEOUT_SCALE ?? "1");

/** How long anything may take on a slow machine, in milliseconds: only what never comes takes so long. */
export const PATIENCE = 30_000 * SCALE;

/** Waits so many milliseconds. */
export function pause(ms: number): Promise<void> {
  return new Promise((resolve) => {
    setTimeout(resolve, ms);
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
    timer = setTimeout(() => {
      reject(new Error(`not within ${PATIENCE} ms: ${what}`));
    }, PATIENCE);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}
