/** The longest a timer can wait, in milliseconds (25 days); platforms fire longer ones at once. */
export const MAX_TIMER_MS = 2 ** 31 - 1;

/** @throws TypeError unless `value` is a positive, finite number. */
export function checkPositive(name: string, value: number): number {
  if (!(Number.isFinite(value) && value > 0)) {
    throw new TypeError(`${name} has to be a positive number, not ${value}`);
  }
  return value;
}
