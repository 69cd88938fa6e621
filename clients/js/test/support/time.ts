/**
 * One unit of time for all tests, so that a slow machine needs one number changed.
 */
const SCALE = Number(process.env.TEST_TIME_SCALE ?? "1");

/** `n` milliseconds, scaled by TEST_TIME_SCALE. */
export function ms(n: number): number {
  return n * SCALE;
}

/** Waits `n` scaled milliseconds. */
export function pause(n: number): Promise<void> {
  return new Promise((resolve) => {
    setTimeout(resolve, ms(n));
  });
}

/** Waits for what has no event. Put a limit around it: {@link within}. */
export async function until(isTrue: () => boolean): Promise<void> {
  while (!isTrue()) {
    await pause(5);
  }
}

/** The promise's outcome, or a rejection that says what did not happen in `n` scaled milliseconds. */
export async function within<T>(n: number, what: string, promise: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => {
      reject(new Error(`not within ${ms(n)} ms: ${what}`));
    }, ms(n));
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}
