/**
 * The shared cases of protocol/conformance: the same files the Python tests run.
 */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { ERROR_CODES } from "../src/index.js";
import { dialogues, DIALOGUES, hold } from "./support/conformance.js";
import { REPOSITORY } from "./support/paths.js";
import { RawConnection } from "./support/raw.js";
import { SKIP_WITHOUT_HUB, skipUnless, startHub, type RealHub } from "./support/real-hub.js";

const ERRORS = join(REPOSITORY, "protocol", "conformance", "errors.json");

test("ERROR_CODES is the shared table", { skip: skipUnless(ERRORS) }, () => {
  const rows = JSON.parse(readFileSync(ERRORS, "utf8")) as { code: number; name: string }[];
  assert.deepEqual({ ...ERROR_CODES }, Object.fromEntries(rows.map(({ name, code }) => [name, code])));
});

const skip = SKIP_WITHOUT_HUB === false ? skipUnless(DIALOGUES) : SKIP_WITHOUT_HUB;

describe("dialogues with the real hub", { skip }, () => {
  let real: RealHub;

  before(async () => {
    real = await startHub();
  });

  after(async () => {
    await real.stop();
  });

  for (const dialogue of skip === false ? dialogues() : []) {
    test(dialogue.name, async () => hold(dialogue, await RawConnection.open(real.url)));
  }
});
