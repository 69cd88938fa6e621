/**
 * Names of options: one that is misspelt would be ignored without a word.
 */

/** @throws TypeError naming an option that is none, or if there are no options at all. */
export function checkKnown(options: object, known: ReadonlySet<string>): void {
  checkObject(options);
  for (const name of Object.keys(options)) {
    if (!known.has(name)) {
      throw new TypeError(`unknown option ${name}: there are ${[...known].join(", ")}`);
    }
  }
}

/** @throws TypeError unless they are an object. */
export function checkObject(options: unknown): void {
  if (typeof options !== "object" || options === null) {
    throw new TypeError(`options have to be an object, not ${options === null ? "null" : typeof options}`);
  }
}

/** @throws TypeError unless it is a function. */
export function checkFunction(name: string, value: unknown): void {
  if (typeof value !== "function") {
    throw new TypeError(`${name} has to be a function, not ${typeof value}`);
  }
}
