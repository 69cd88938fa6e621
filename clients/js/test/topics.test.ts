import assert from "node:assert/strict";
import { test } from "node:test";
import { isPattern, matches } from "../src/topics.js";

/** The rules of protocol/trunkline_protocol/topics.py. */
const CASES: readonly (readonly [pattern: string, reached: readonly string[], others: readonly string[]])[] = [
  ["a", ["a"], ["b", "a.b", "A", "aa"]],
  ["a.b", ["a.b"], ["a", "a.b.c", "a.c", "b.a"]],
  ["*", ["a", "b"], ["a.b", "system"]],
  ["a.*", ["a.b", "a.c"], ["a", "a.b.c", "b.a"]],
  ["*.b", ["a.b", "b.b"], ["b", "a.b.b", "system.b"]],
  ["a.*.c", ["a.b.c", "a.c.c"], ["a.c", "a.b.b.c", "a.b.c.d"]],
  ["a.>", ["a.b", "a.b.c.d"], ["a", "b.a", "ab.c"]],
  ["a.*.>", ["a.b.c", "a.b.c.d"], ["a.b", "a"]],
  [">", ["a", "a.b.c", "systems", "systems.a"], ["system", "system.metrics"]],
  ["*.*", ["a.b", "a.system"], ["system.metrics", "a"]],
  ["*.>", ["a.b", "a.b.c"], ["a", "system.metrics"]],
  ["system.*", ["system.metrics"], ["system", "systems.a"]],
  ["system.>", ["system.metrics", "system.a.b"], ["system"]],
  ["größe.🎉", ["größe.🎉"], ["größe.x"]],
  ["a+b.$(c)", ["a+b.$(c)"], ["aab.$(c)"]],
];

for (const [pattern, reached, others] of CASES) {
  test(`${pattern} reaches ${reached.join(" ")}, not ${others.join(" ")}`, () => {
    const tokens = pattern.split(".");
    for (const topic of reached) {
      assert.equal(matches(tokens, topic.split(".")), true, topic);
    }
    for (const topic of others) {
      assert.equal(matches(tokens, topic.split(".")), false, topic);
    }
  });
}

test("only * and > make a pattern", () => {
  for (const [topic, expected] of [["a.b", false], ["a.*", true], ["*", true], [">", true], ["a.>", true]] as const) {
    assert.equal(isPattern(topic), expected, topic);
  }
});
