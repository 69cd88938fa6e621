/**
 * One message -> the text of one frame, refusing what JSON would change without a word.
 */

/**
 * Serialises a message.
 *
 * @throws TypeError naming the path (`params.items[2].x`) of a value JSON would lose or falsify: an integer
 * beyond `Number.MAX_SAFE_INTEGER`, `NaN`, `Infinity`, a `BigInt`, a typed array, a string or key with a lone
 * surrogate; nested deeper than 128 levels; or when `params` contains itself.
 */
export function encode(message: object): string {
  return JSON.stringify(message, makeReplacer());
}

/**
 * The text of a notification.
 *
 * @throws TypeError like {@link encode}.
 */
export function notification(method: string, params: object): string {
  return encode({ jsonrpc: "2.0", method, params });
}

/** Levels of objects and arrays that may stand in a message: the protocol's own limit, see SPEC.md. */
const MAX_DEPTH = 128;

/** An object on the way down, and the path segment that led to it. */
interface Step {
  readonly value: object;
  readonly segment: string;
}

/**
 * A replacer that changes nothing. `JSON.stringify` visits depth first and passes the object that holds
 * the key as `this`, so the path to it is known without a walk of our own.
 */
function makeReplacer(): (this: object, key: string, value: unknown) => unknown {
  const path: Step[] = [];
  return function check(key, value) {
    while (path.length > 0 && path.at(-1)?.value !== this) {
      path.pop();
    }
    const fault =
      faultOf(value) ??
      (isWellFormed(key) ? undefined : "has a lone surrogate in its name") ??
      (path.length > MAX_DEPTH && typeof value === "object" && value !== null
        ? `is nested deeper than ${MAX_DEPTH} levels`
        : undefined);
    if (fault !== undefined) {
      throw new TypeError(`${pathTo(path, this, key)} ${fault}`);
    }
    if (typeof value === "object" && value !== null) {
      path.push({ value, segment: path.length === 0 ? "" : segment(this, key) });
    }
    return value;
  };
}

function faultOf(value: unknown): string | undefined {
  switch (typeof value) {
    case "number":
      return faultOfNumber(value);
    case "bigint":
      return "is a BigInt: send a string";
    case "string":
      return isWellFormed(value) ? undefined : "has a lone surrogate";
    case "object":
      return ArrayBuffer.isView(value) ? "is binary: send Array.from(...) of it" : undefined;
    default:
      return undefined;
  }
}

/** Beyond `Number.MAX_SAFE_INTEGER` there are only integers, whose digits are not exact, and infinity. */
function faultOfNumber(value: number): string | undefined {
  return Math.abs(value) <= Number.MAX_SAFE_INTEGER ? undefined : `is ${value}, inexact in JSON: send a string`;
}

function pathTo(path: readonly Step[], holder: object, key: string): string {
  const segments = path.map((step) => step.segment).join("") + segment(holder, key);
  return segments.replace(/^\./u, "");
}

/** `.name`, `[2]` or `["odd name"]`. */
function segment(holder: object, key: string): string {
  if (Array.isArray(holder)) {
    return `[${key}]`;
  }
  return /^[\p{ID_Start}$_][\p{ID_Continue}$]*$/u.test(key) ? `.${key}` : `[${JSON.stringify(key)}]`;
}

/** Whether a string has no lone surrogate; strings with one have no UTF-8 form. */
function isWellFormed(text: string): boolean {
  const native = (text as { isWellFormed?: () => boolean }).isWellFormed;
  return native === undefined ? !/\p{Surrogate}/u.test(text) : native.call(text);
}
