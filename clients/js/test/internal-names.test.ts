/**
 * Names that the build shortens are nobody else's.
 */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { INTERNAL_NAMES } from "../scripts/internal-names.mjs";
import { skipUnless } from "./support/real-hub.js";
import { PACKAGE, REPOSITORY } from "./support/paths.js";

function strayIn(words: Iterable<string>): readonly string[] {
  const taken = new Set(words);
  return INTERNAL_NAMES.filter((name) => taken.has(name));
}

test("none is used twice, or for nothing", () => {
  assert.equal(new Set(INTERNAL_NAMES).size, INTERNAL_NAMES.length);
  const used = new Set(readFileSync(join(PACKAGE, "dist", "index.js.map"), "utf8").match(/\w+/gu));
  assert.deepEqual(INTERNAL_NAMES.filter((name) => !used.has(name)), []);
});

test("none is in the code of the README", () => {
  const readme = readFileSync(join(PACKAGE, "README.md"), "utf8");
  const code = readme.match(/```[^]*?```|`[^`\n]+`/gu) ?? [];
  assert.ok(code.length > 100);
  assert.deepEqual(strayIn(code.flatMap((part) => part.replaceAll(/\/\/.*/gu, "").match(/\w+/gu) ?? [])), []);
});

const PROTOCOL = join(REPOSITORY, "protocol");

test("none is a member of a message, nor of what tests read", { skip: skipUnless(PROTOCOL) }, () => {
  const files = ["SPEC.md", ...["dialogues", "errors", "scripts"].map((name) => join("conformance", `${name}.json`))];
  for (const file of files) {
    const members = readFileSync(join(PROTOCOL, file), "utf8").matchAll(/"(?<name>\w+)":/gu);
    assert.deepEqual(strayIn(Array.from(members, ({ groups }) => groups?.name ?? "")), [], file);
  }
});
