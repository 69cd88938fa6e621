/**
 * The shared scripts of protocol/conformance: several connections, cuts, values said before. The rules of the steps
 * stand in tests/protocol/test_conformance_scripts.py, which runs the same file.
 */
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { CODEC } from "./support/codec.js";
import { matchesInAnyOrder, mismatch } from "./support/match.js";
import { REPOSITORY } from "./support/paths.js";
import { RawConnection } from "./support/raw.js";
import { SKIP_WITHOUT_LAB, skipUnless, startHub, type RealHub } from "./support/real-hub.js";

type Fields = Readonly<Record<string, unknown>>;

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

interface Case {
  readonly name: string;
  readonly why: string;
  readonly section: string;
  readonly steps: readonly Step[];
}

const SCRIPTS = join(REPOSITORY, "protocol", "conformance", "scripts.json");
const skip = SKIP_WITHOUT_LAB === false ? skipUnless(SCRIPTS) : SKIP_WITHOUT_LAB;

describe("scripts with the real hub", { skip }, () => {
  let real: RealHub;

  before(async () => {
    real = await startHub({ lab: true });
  });

  after(async () => {
    await real.stop();
  });

  const { cases } = skip === false ? (JSON.parse(readFileSync(SCRIPTS, "utf8")) as { cases: Case[] }) : { cases: [] };
  for (const { section, name, why, steps } of cases) {
    test(`${section}: ${name}`, async () => {
      const script = new Script(real.url);
      try {
        for (const [number, step] of steps.entries()) {
          await script.take(step).catch((error: unknown) => {
            throw new Error(`step ${number}: ${JSON.stringify(step)}\n${why}\n${String(error)}`, { cause: error });
          });
        }
      } finally {
        script.end();
      }
    });
  }
});

class Script {
  readonly #url: string;
  readonly #connections = new Map<string, RawConnection>();
  readonly #captured = new Map<string, unknown>([["unique", randomUUID()]]);

  constructor(url: string) {
    this.#url = url;
  }

  async take(step: Step): Promise<void> {
    if (step.open !== undefined) {
      this.#connections.set(step.open, await RawConnection.open(this.#url, [CODEC.subprotocol]));
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

  async #act(connection: RawConnection, step: Step): Promise<void> {
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

  #named(name: string): RawConnection {
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
async function next(connection: RawConnection): Promise<unknown> {
  for (;;) {
    const message = await connection.next();
    if ((message as Fields)["method"] !== "session.ack") {
      return message;
    }
  }
}
