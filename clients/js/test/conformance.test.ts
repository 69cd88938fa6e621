/**
 * The shared cases of protocol/conformance: the same files the Python tests run.
 */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { ERROR_CODES } from "../src/index.js";
import { matchesInAnyOrder, mismatch } from "./support/match.js";
import { REPOSITORY } from "./support/paths.js";
import { RawConnection, type Send } from "./support/raw.js";
import { SKIP_WITHOUT_HUB, skipUnless, startHub, type RealHub } from "./support/real-hub.js";

interface Case {
  readonly name: string;
  readonly why: string;
  readonly send: readonly Send[];
  readonly receive: readonly unknown[];
  readonly order?: "any";
  readonly close?: number;
}

const ERRORS = join(REPOSITORY, "protocol", "conformance", "errors.json");
const DIALOGUES = join(REPOSITORY, "protocol", "conformance", "dialogues.json");

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

  for (const dialogue of skip === false ? cases() : []) {
    test(dialogue.name, () => hold(dialogue, real.url));
  }
});

function cases(): Case[] {
  const { cases: all } = JSON.parse(readFileSync(DIALOGUES, "utf8")) as { cases: Case[] };
  assert.ok(all.length > 0, "no cases");
  return all;
}

/** Runs one case on a connection of its own. */
async function hold(dialogue: Case, url: string): Promise<void> {
  const connection = await RawConnection.open(url);
  try {
    await run(dialogue, connection);
  } catch (error) {
    throw new Error(`${dialogue.why}\n${String(error)}`, { cause: error });
  } finally {
    connection.terminate();
  }
}

async function run({ send, receive, order, close }: Case, connection: RawConnection): Promise<void> {
  for (const item of send) {
    connection.send(item);
  }
  const received: unknown[] = [];
  while (received.length < receive.length) {
    received.push(await connection.next());
  }
  if (order === "any") {
    const said = `expected in any order ${JSON.stringify(receive)}, got ${JSON.stringify(received)}`;
    assert.ok(matchesInAnyOrder(receive, received), said);
  } else {
    requireMatch(receive, received);
  }
  if (close === undefined) {
    await requireAlive(connection);
  } else {
    assert.equal(await connection.closeCode(), close);
  }
}

/** The very next message answers the ping: nothing else was sent, and the connection lives. */
async function requireAlive(connection: RawConnection): Promise<void> {
  connection.send({ text: '{"jsonrpc":"2.0","id":"alive","method":"rpc.ping"}' });
  requireMatch({ jsonrpc: "2.0", id: "alive", result: { $any: true } }, await connection.next());
}

function requireMatch(expected: unknown, actual: unknown): void {
  const fault = mismatch(expected, actual);
  assert.ok(fault === undefined, fault);
}
