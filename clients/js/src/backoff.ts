/**
 * How long to wait before trying again.
 */

/** Limits of a delay that grows. */
export interface Backoff {
  readonly minMs: number;
  readonly factor?: number;
  readonly maxMs?: number;
}

/**
 * Full jitter ("Exponential Backoff And Jitter", AWS): anything from 0 to a limit that grows with every attempt, so that
 * those who failed in the same moment do not come back in the same moment.
 *
 * @param attempt counts from 0.
 * @returns milliseconds.
 */
export function fullJitter(
  attempt: number,
  { minMs, factor = 2, maxMs = Infinity }: Backoff,
  random = Math.random,
): number {
  return random() * Math.min(maxMs, minMs * factor ** attempt);
}
