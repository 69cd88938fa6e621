/**
 * Names of options: one that is misspelt would be ignored without a word.
 */

/** @throws TypeError naming an option that is none. */
export function checkKnown(options: object, known: ReadonlySet<string>): void {
  for (const name of Object.keys(options)) {
    if (!known.has(name)) {
      throw new TypeError(`unknown option ${name}: there are ${[...known].join(", ")}`);
    }
  }
}
