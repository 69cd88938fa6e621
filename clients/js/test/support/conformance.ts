/**
 * The dialogues and scripts of protocol/conformance, and how they are held with any hub. The rules of a script's steps stand in
 * tests/protocol/test_conformance_scripts.py, which runs the same files.
 */
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { matchesInAnyOrder, mismatch } from "./match.js";
import { REPOSITORY } from "./paths.js";
import type { Send } from "./raw.js";

type Fields = Readonly<Record<string, unknown>>;

/** A connection that says exactly what it is told to. */
export interface Conversation {
  send(item: Send): void;
  /** Sends a message, in whatever codec it speaks. */
  say(message: object): void;
  /** The next message; rejects if the connection closes instead. */
  next(): Promise<unknown>;
  /** The close code; rejects if messages come first. */
  closeCode(): Promise<number>;
  terminate(): void;
}

export interface Dialogue {
  readonly name: string;
  readonly why: string;
  readonly send: readonly Send[];
  readonly receive: readonly unknown[];
  readonly order?: "any";
  readonly close?: number;
}

interface Step {
  readonly open?: string;
  readonly cut?: string;
  readonly on?: string;
  readonly send?: unknown;
  readonly receive?: unknown;
  readonly without?: readonly string[];
  readonly any?: readonly unknown[];
  readonly until?: unknown;
  readonly alive?: true;
  readonly close?: number;
}

export interface ScriptCase {
  readonly name: string;
  readonly why: string;
  readonly section: string;
  readonly steps: readonly Step[];
}

export const DIALOGUES = join(REPOSITORY, "protocol", "conformance", "dialogues.json");
export const SCRIPTS = join(REPOSITORY, "protocol", "conformance", "scripts.json");

export function dialogues(): Dialogue[] {
  return casesOf<Dialogue>(DIALOGUES);
}

export function scripts(): ScriptCase[] {
  return casesOf<ScriptCase>(SCRIPTS);
}

function casesOf<Case>(file: string): Case[] {
  const { cases } = JSON.parse(readFileSync(file, "utf8")) as { cases: Case[] };
  assert.ok(cases.length > 0, `no cases in ${file}`);
  return cases;
}

/** Takes the steps of one script. */
export async function play({ why, steps }: ScriptCase, open: () => Promise<Conversation>): Promise<void> {
  const script = new Script(open);
  try {
    for (const [number, step] of steps.entries()) {
      await script.take(step).catch((error: unknown) => {
        throw new Error(`step ${number}: ${JSON.stringify(step)}\n${why}\n${String(error)}`, { cause: error });
      });
    }
  } finally {
    script.end();
  }
}

/** Runs one dialogue on a connection of its own, which it ends. */
export async function hold(dialogue: Dialogue, connection: Conversation): Promise<void> {
  try {
    await run(dialogue, connection);
  } catch (error) {
    throw new Error(`${dialogue.why}\n${String(error)}`, { cause: error });
  } finally {
    connection.terminate();
  }
}

async function run({ send, receive, order, close }: Dialogue, connection: Conversation): Promise<void> {
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
async function requireAlive(connection: Conversation): Promise<void> {
  connection.send({ text: '{"jsonrpc":"2.0","id":"alive","method":"rpc.ping"}' });
  requireMatch({ jsonrpc: "2.0", id: "alive", result: { $any: true } }, await connection.next());
}

function requireMatch(expected: unknown, actual: unknown): void {
  const fault = mismatch(expected, actual);
  assert.ok(fault === undefined, fault);
}

class Script {
  readonly #open: () => Promise<Conversation>;
  readonly #connections = new Map<string, Conversation>();
  readonly #captured = new Map<string, unknown>([["unique", randomUUID()]]);

  /** `open` makes one more connection. */
  constructor(open: () => Promise<Conversation>) {
    this.#open = open;
  }

  async take(step: Step): Promise<void> {
    if (step.open !== undefined) {
      this.#connections.set(step.open, await this.#open());
      return;
    }
    if (step.cut !== undefined) {
      this.#named(step.cut).terminate();
      return;
    }
    await this.#act(this.#named(step.on ?? ""), step);
  }

  end(): void {
    for (const connection of this.#connections.values()) {
      connection.terminate();
    }
  }

  async #act(connection: Conversation, step: Step): Promise<void> {
    if ("send" in step) {
      connection.say(this.#fill(step.send) as object);
    } else if ("receive" in step) {
      const received = await next(connection);
      this.#require(step.receive, received);
      const stray = (step.without ?? []).filter((member) => member in (received as object));
      assert.deepEqual(stray, [], JSON.stringify(received));
    } else if (step.any !== undefined) {
      const received: unknown[] = [];
      while (received.length < step.any.length) {
        received.push(await next(connection));
      }
      assert.ok(matchesInAnyOrder(this.#fill(step.any) as unknown[], received), JSON.stringify(received));
    } else if ("until" in step) {
      for (;;) {
        const received = await connection.next();
        this.#capture(step.until, received);
        if (mismatch(this.#fill(step.until), received) === undefined) {
          return;
        }
      }
    } else if (step.alive === true) {
      connection.say({ jsonrpc: "2.0", id: "alive", method: "rpc.ping" });
      this.#require({ id: "alive", result: { pong: true } }, await next(connection));
    } else {
      await assert.rejects(next(connection), /^Error: closed /u);
      assert.equal(await connection.closeCode(), step.close);
    }
  }

  #named(name: string): Conversation {
    const connection = this.#connections.get(name);
    assert.ok(connection !== undefined, `no connection ${name}`);
    return connection;
  }

  #require(expected: unknown, received: unknown): void {
    this.#capture(expected, received);
    const fault = mismatch(this.#fill(expected), received);
    assert.ok(fault === undefined, fault);
  }

  /** Remembers what stands where `$capture` does. */
  #capture(expected: unknown, received: unknown): void {
    if (typeof expected !== "object" || expected === null || typeof received !== "object" || received === null) {
      return;
    }
    for (const [key, value] of Object.entries(expected)) {
      const found = (received as Fields)[key];
      const name: unknown = (value as Fields | null)?.["$capture"];
      if (typeof name === "string") {
        this.#captured.set(name, found);
      } else {
        this.#capture(value, found);
      }
    }
  }

  /** The value with everything in place that is known by now. */
  #fill(value: unknown): unknown {
    if (Array.isArray(value)) {
      return value.map((member) => this.#fill(member));
    }
    if (typeof value !== "object" || value === null) {
      return value;
    }
    const fields = value as Fields;
    const name = fields["$ref"] ?? fields["$capture"];
    if (typeof name === "string") {
      return this.#captured.get(name);
    }
    if (typeof fields["$repeat"] === "string") {
      return fields["$repeat"].repeat(Number(fields["count"]));
    }
    return Object.fromEntries(Object.entries(fields).map(([key, member]) => [key, this.#fill(member)]));
  }
}

/** The next message that is no acknowledgement: when those come is a matter of time. */
async function next(connection: Conversation): Promise<unknown> {
  for (;;) {
    const message = await connection.next();
    if ((message as Fields)["method"] !== "session.ack") {
      return message;
    }
  }
}
