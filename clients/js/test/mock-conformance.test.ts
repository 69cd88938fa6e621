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
const LEFT_OUT: readonly (readonly [why: string, ...cases: RegExp[]])[] = [
  [
    "no client of this package sends it: malformed JSON, messages that are none, frames that are no text",
    /^bad JSON: /u,
    /^(?:NaN|Infinity|1e400|1e400 as id|lone surrogate|lone low surrogate in an id|publish a number beyond a double)$/u,
    /nested 100,000 deep$/u,
    /^params of (?:129|3,000) levels$/u,
    /^(?:an integer above 2\^53 in a result|small and large doubles)$/u,
    /^(?:a message that|id is|params are) /u,
    /^(?:wrong version|version as a number|no version|no method|method is no string|an empty object|a bad member with an id)$/u,
    /binary message$|^invalid UTF-8: |^UTF-8 as bytes$/u,
  ],
  ["no client of this package sends batches", /\bbatch\b/u],
  [
    "no client of this package breaks the rules of sessions, credit and input",
    /^5: (?:not the first call|twice|params of session\.open|a number that may not come|session\.close without a session)/u,
    /^5: (?:an acknowledgement of what was never sent|more than was sent|less than was acknowledged)$/u,
    /^5: resumed false cancels/u,
    /^3 Credit: credit that makes no sense$/u,
    /^3 Streaming input: (?:too far ahead|a bad push: |a push to a method that takes no input)/u,
  ],
  [
    "no callee of this package answers so",
    /^6: (?:chunks out of order|chunks of a method that does not stream|an answer |a chunk without an index)/u,
  ],
  [
    "handlers of a mock declare no types: what they make of params is theirs to test",
    /^(?:params of the wrong type|params out of range|a parameter is missing|an unknown parameter|too many positional params)$/u,
    /^(?:a stream with wrong params|a method returns what JSON cannot carry: |2 Idempotency keys: refusals release the key)/u,
  ],
  ["a mock does not look at the schemas that clients say of their methods", /^6: what is no schema of params cannot be registered$/u],
  ["handlers of a mock call no other methods", /^nested call|^6: a method in an executor calls a client$/u],
  ["a mock has no credentials, and takes unknown params of its own methods", /^(?:auth without a token|unknown params of a hub method)$/u],
  [
    "a mock counts items, not bytes: its windows and what it keeps of results have no limit in bytes",
    /^3 Credit: one chunk may always go$/u,
    /^2 Idempotency keys: of a large result only the fact is kept$/u,
  ],
  [
    "a mock acknowledges after 32 frames, and at a restart, but not after a time: nothing that a program sees hangs on it",
    /^5: the hub acknowledges$/u,
  ],
  ["a mock gives credit for each item of input, a hub for several at once: clients take either", /^5: input over a resume$/u],
  [
    "a mock runs a call once: with a key the first caller's cancel ends it for those that joined, no callee gets a lost call, and none has a limit",
    /^2 Idempotency keys: cancelling detaches one caller$/u,
    /^6: (?:a callee of an idempotent method vanishes|the callee with the most room gets the call)$/u,
  ],
];

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
