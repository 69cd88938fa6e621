/**
 * Partial matching of JSON, as the conformance cases use it.
 *
 * Objects: every expected key has to match. Arrays: same length, one by one. `{"$any": true}` matches all,
 * `{"$type": "string"}` by type, `{"$contains": "text"}` strings that contain it. Everything else: exactly.
 */

type Fields = Readonly<Record<string, unknown>>;

/** Where and why `actual` does not match; undefined if it does. */
export function mismatch(expected: unknown, actual: unknown, path = "$"): string | undefined {
  if (Array.isArray(expected)) {
    return mismatchOfArray(expected, actual, path);
  }
  if (typeof expected !== "object" || expected === null) {
    return expected === actual ? undefined : differs(path, expected, actual);
  }
  const fields = expected as Fields;
  if ("$any" in fields) {
    return undefined;
  }
  if ("$type" in fields) {
    return typeName(actual) === fields["$type"] ? undefined : differs(path, expected, actual);
  }
  if ("$contains" in fields) {
    const found = typeof actual === "string" && actual.includes(String(fields["$contains"]));
    return found ? undefined : differs(path, expected, actual);
  }
  return mismatchOfObject(fields, actual, path);
}

/** Whether the expected values can be assigned to the actual ones, one to one, in any order. */
export function matchesInAnyOrder(expected: readonly unknown[], actual: readonly unknown[]): boolean {
  const [first, ...others] = expected;
  if (expected.length === 0) {
    return actual.length === 0;
  }
  return actual.some(
    (candidate, index) =>
      mismatch(first, candidate) === undefined && matchesInAnyOrder(others, actual.toSpliced(index, 1)),
  );
}

function mismatchOfArray(expected: readonly unknown[], actual: unknown, path: string): string | undefined {
  if (!Array.isArray(actual) || actual.length !== expected.length) {
    return differs(path, expected, actual);
  }
  return firstOf(expected.map((item, index) => mismatch(item, actual[index], `${path}[${index}]`)));
}

function mismatchOfObject(expected: Fields, actual: unknown, path: string): string | undefined {
  if (typeName(actual) !== "object") {
    return differs(path, expected, actual);
  }
  const fields = actual as Fields;
  return firstOf(
    Object.entries(expected).map(([key, value]) =>
      key in fields ? mismatch(value, fields[key], `${path}.${key}`) : `${path}.${key} is missing`,
    ),
  );
}

function firstOf(faults: readonly (string | undefined)[]): string | undefined {
  return faults.find((fault) => fault !== undefined);
}

function differs(path: string, expected: unknown, actual: unknown): string {
  return `${path}: expected ${JSON.stringify(expected)}, got ${JSON.stringify(actual)}`;
}

function typeName(value: unknown): string {
  if (value === null) {
    return "null";
  }
  return Array.isArray(value) ? "array" : typeof value;
}
