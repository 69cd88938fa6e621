/**
 * One message -> the text of one frame, refusing what JSON would change without a word.
 */

import type { Codec } from "./codec.js";
import { BYTES, parse } from "./decode.js";
import { SUBPROTOCOL } from "./messages.js";

/**
 * Serialises a message. Bytes (`Uint8Array`, `ArrayBuffer`) are sent in their JSON form.
 *
 * @throws TypeError naming the path (`params.items.2.x`) of a value JSON would lose or falsify: an integer
 * beyond `Number.MAX_SAFE_INTEGER`, `NaN`, `Infinity`, a `BigInt`, a typed array that is not of bytes, a string or key with a lone
 * surrogate, a function, a symbol, an `Error`, `Map`, `Set`, `Promise`, `Blob` or another object whose content JSON does not see;
 * nested deeper than 128 levels; or when `params` contains itself.
 */
export function encode(message: object): string {
  return JSON.stringify(message, makeReplacer());
}

/** A notification. */
export function notification(method: string, params: object): object {
  return { jsonrpc: "2.0", method, params };
}

/** JSON, in text frames. */
export const JSON_CODEC: Codec = {
  subprotocol: SUBPROTOCOL,
  encode,
  join: (head, frame) => `${encode(head).slice(0, -1)},${frame.slice(1) as string}`,
  parse,
};

/** Levels of objects and arrays that may stand in a message: the protocol's own limit, see SPEC.md. */
export const MAX_DEPTH = 128;

/** An object on the way down, and its name in the one that holds it. */
interface Step {
  readonly value: object;
  readonly key: string;
}

/**
 * A replacer that changes nothing but bytes. `JSON.stringify` visits depth first and passes the object that holds
 * the key as `this`, so the path to it is known without a walk of our own.
 */
function makeReplacer(): (this: object, key: string, value: unknown) => unknown {
  const path: Step[] = [];
  return function check(key, value) {
    while (path.length > 0 && path.at(-1)?.value !== this) {
      path.pop();
    }
    const given: unknown = this[key as keyof typeof this];
    const sent = sentOf(given, value);
    const isHolder = typeof sent === "object" && sent !== null;
    const fault =
      faultOf(sent) ??
      (sent === undefined ? lossOf(given, Array.isArray(this)) : undefined) ??
      (isWellFormed(key) ? undefined : "has a lone surrogate") ??
      (isHolder && path.length > MAX_DEPTH ? `is nested deeper than ${MAX_DEPTH} levels` : undefined);
    if (fault !== undefined) {
      throw new TypeError(`${[...path.map((step) => step.key), key].slice(1).join(".")} ${fault}`);
    }
    if (isHolder) {
      path.push({ value: sent, key });
    }
    return sent;
  };
}

const NO_FORM = "has no form in JSON";

/** What is wrong with a value of which nothing is left: nothing, for members that were undefined before. */
export function lossOf(given: unknown, isItem: boolean): string | undefined {
  return given === undefined ? (isItem ? "is undefined: send null" : undefined) : NO_FORM;
}

/** What is wrong with a value that was asked for its JSON form already. */
export function faultOf(value: unknown): string | undefined {
  switch (typeof value) {
    case "number":
      // Beyond it there are only integers, whose digits are not exact, and infinity.
      return Math.abs(value) <= Number.MAX_SAFE_INTEGER ? undefined : `is ${value}: send a string`;
    case "bigint":
      return "is a BigInt: send a string";
    case "string":
      return isWellFormed(value) ? undefined : "has a lone surrogate";
    case "function":
    case "symbol":
      return `is a ${typeof value}`;
    case "object":
      return value === null ? undefined : opaqueFault(value);
    default:
      return undefined;
  }
}

/** What JSON would make `{}` of: objects of a class whose content is not in members. Those of other realms are plain as well. */
function opaqueFault(value: object): string | undefined {
  if (ArrayBuffer.isView(value)) {
    return "is no Uint8Array";
  }
  const prototype: unknown = Object.getPrototypeOf(value);
  const isPlain = prototype === null || Object.getPrototypeOf(prototype) === null || Array.isArray(value);
  const isOpaque = !isPlain && (value instanceof Error || Object.keys(value).length === 0);
  return isOpaque ? `is a ${value.constructor.name}, which ${NO_FORM}` : undefined;
}

/** What is sent of bytes, and anything else as it is. Before `toJSON`, which Node's Buffer has. */
function sentOf(given: unknown, value: unknown): unknown {
  const bytes = given instanceof ArrayBuffer ? new Uint8Array(given) : given;
  return bytes instanceof Uint8Array ? { [BYTES]: base64(bytes) } : value;
}

/** Base64 of bytes, which become a string piece by piece: a function takes only so many arguments. */
function base64(bytes: Uint8Array): string {
  let units = "";
  for (let at = 0; at < bytes.length; at += 8192) {
    // oxlint-disable-next-line prefer-code-point -- all are below 256, and it takes three times as long
    units += Reflect.apply(String.fromCharCode, undefined, bytes.subarray(at, at + 8192));
  }
  return btoa(units);
}

/** Whether a string has no lone surrogate; strings with one have no UTF-8 form. */
export function isWellFormed(text: string): boolean {
  return (text as { isWellFormed?: () => boolean }).isWellFormed?.() ?? !/\p{Surrogate}/u.test(text);
}
