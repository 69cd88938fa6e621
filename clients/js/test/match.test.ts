import assert from "node:assert/strict";
import { test } from "node:test";
import { matchesInAnyOrder, mismatch } from "./support/match.js";

const MATCHES: readonly (readonly [expected: unknown, actual: unknown])[] = [
  [{ a: 1 }, { a: 1, b: 2 }],
  [{ a: [{ b: null }] }, { a: [{ b: null, c: 1 }] }],
  [{ $any: true }, null],
  [{ a: { $any: true } }, { a: [] }],
  [{ $type: "string" }, ""],
  [{ $type: "number" }, 0],
  [{ $type: "object" }, {}],
  [{ $type: "array" }, []],
  [{ $type: "boolean" }, false],
  [{ $contains: "b" }, "abc"],
  [[], []],
  ["x", "x"],
];

for (const [expected, actual] of MATCHES) {
  test(`${JSON.stringify(actual)} matches ${JSON.stringify(expected)}`, () => {
    assert.equal(mismatch(expected, actual), undefined);
  });
}

const MISMATCHES: readonly (readonly [expected: unknown, actual: unknown, where: RegExp])[] = [
  [{ a: 1 }, { a: "1" }, /^\$\.a: expected 1, got "1"/u],
  [{ a: 1 }, {}, /^\$\.a is missing/u],
  [{ a: { $any: true } }, {}, /^\$\.a is missing/u],
  [{ a: [{ b: 1 }] }, { a: [{ b: 2 }] }, /^\$\.a\[0\]\.b/u],
  [[1], [1, 2], /^\$: expected \[1\]/u],
  [[1], { 0: 1 }, /^\$/u],
  [{}, [], /^\$/u],
  [{}, null, /^\$/u],
  [null, undefined, /^\$/u],
  [{ $type: "object" }, null, /^\$/u],
  [{ $type: "object" }, [], /^\$/u],
  [{ $contains: "x" }, "abc", /^\$/u],
  [{ $contains: "1" }, 1, /^\$/u],
];

for (const [expected, actual, where] of MISMATCHES) {
  test(`${JSON.stringify(actual)} does not match ${JSON.stringify(expected)}`, () => {
    assert.match(String(mismatch(expected, actual)), where);
  });
}

test("in any order each actual value serves one expected value", () => {
  assert.ok(matchesInAnyOrder([{ id: 1 }, { id: 2 }], [{ id: 2 }, { id: 1 }]));
  assert.ok(matchesInAnyOrder([{ $any: true }, { id: 1 }], [{ id: 1 }, { id: 2 }]));
  assert.ok(!matchesInAnyOrder([{ id: 1 }, { id: 1 }], [{ id: 1 }, { id: 2 }]));
  assert.ok(!matchesInAnyOrder([{ id: 1 }], [{ id: 1 }, { id: 2 }]));
});
