/**
 * How long to wait before trying again.
 */

/** What no delay exceeds where nobody says otherwise: a timer of 2 ** 31 ms or more is over at once. */
const LONGEST_MS = 60_000;

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
  { minMs, factor = 2, maxMs = LONGEST_MS }: Backoff,
  random = Math.random,
): number {
  return random() * Math.min(maxMs, minMs * factor ** attempt);
}
