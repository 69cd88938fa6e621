/**
 * What callers may say. A misspelt option would be ignored without a word.
 */
import { utf8 } from "./socket.js";

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

/** @throws RangeError unless a WebSocket can be closed by them. */
export function checkClose(code: number, reason: string): void {
  if ((code !== 1000 && !(code >= 3000 && code < 5000)) || utf8(reason).length > 123) {
    throw new RangeError("code: 1000 or 3000 to 4999; reason: at most 123 bytes");
  }
}
