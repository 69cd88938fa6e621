/**
 * The mock hub holds the shared cases of protocol/conformance that concern what it has, and here is said what it leaves out.
 */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import { MockHub } from "../src/testing/index.js";
import { wireError } from "../src/testing/mock-errors.js";
import { dialogues, hold, play, scripts } from "./support/conformance.js";
import { converse, serveDebug } from "./support/mock-conversation.js";
import { REPOSITORY } from "./support/paths.js";

/** Why cases are left out, and which. A pattern that fits no case any more fails. */
const LEFT_OUT: readonly (readonly [why: string, ...cases: RegExp[]])[] = [];

const names = [...dialogues().map(({ name }) => name), ...scripts().map(({ section, name }) => `${section}: ${name}`)];

function isLeftOut(name: string): boolean {
  return LEFT_OUT.some(([, ...cases]) => cases.some((pattern) => pattern.test(name)));
}

test("every pattern of what is left out is about a case", () => {
  for (const [why, ...cases] of LEFT_OUT) {
    for (const pattern of cases) {
      assert.ok(names.some((name) => pattern.test(name)), `${String(pattern)} (${why})`);
    }
  }
});

test("the mock's errors say what the shared table says", () => {
  const file = join(REPOSITORY, "protocol", "conformance", "errors.json");
  const rows = JSON.parse(readFileSync(file, "utf8")) as { code: number; name: string; recovery: string; retryable: boolean }[];
  for (const { code, name, recovery, retryable } of rows) {
    const data = { type: name, recovery, retryable, maybe_executed: false };
    assert.deepEqual(wireError({ code, message: "m" }), { code, message: "m", data });
  }
});

describe("dialogues with the mock hub", () => {
  for (const dialogue of dialogues().filter(({ name }) => !isLeftOut(name))) {
    test(dialogue.name, async () => hold(dialogue, await converse(serveDebug(new MockHub()))));
  }
});

describe("scripts with the mock hub", () => {
  for (const script of scripts()) {
    const name = `${script.section}: ${script.name}`;
    if (!isLeftOut(name)) {
      test(name, () => {
        const mock = serveDebug(new MockHub());
        return play(script, () => converse(mock));
      });
    }
  }
});
