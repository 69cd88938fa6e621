/**
 * Nobody is run over: credit for streams, and for what is fed to a call, against the real hub.
 */
import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, writeFileSync, existsSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { connect, RpcError, type Hub } from "../src/index.js";
import { SKIP_WITHOUT_LAB, startHub, type RealHub } from "./support/real-hub.js";
import { rejection } from "./support/scripted.js";
import { pause, settled, until, within } from "./support/time.js";

async function* numbers(): AsyncGenerator<number> {
  for (let n = 0; n < 1_000; n += 1) {
    yield n;
  }
}

describe("flow", { skip: SKIP_WITHOUT_LAB }, () => {
  let real: RealHub;
  let hub: Hub;
  let folder: string;
  const warnings: string[] = [];

  before(async () => {
    real = await startHub({ lab: true });
    hub = await connect(real.url, { onWarning: (message) => warnings.push(message) });
    folder = mkdtempSync(join(tmpdir(), "trunkline-flow-"));
  });

  after(async () => {
    await hub.close();
    await real.stop();
    rmSync(folder, { recursive: true });
    assert.deepEqual(warnings, []);
  });

  test("a slow reader stops the method, not the connection", async () => {
    const marker = join(folder, "flood");
    const stream = hub.stream("lab.flood", { n: 100_000, marker });
    const iterator = stream[Symbol.asyncIterator]();
    await iterator.next();
    const produced = (): number => Number(readFileSync(marker, "utf8"));
    assert.ok((await settled(produced, 200)) < 200, `${produced()} chunks`);
    assert.equal(await hub.call("debug.echo", { value: 1 }), 1);
    await iterator.return?.();
  });

  for (const [what, window, n, size] of [
    ["one at a time", { items: 1 }, 50, 10],
    ["the default", undefined, 1_000, 10],
    ["chunks larger than the window", { bytes: 100 }, 20, 1_000],
    ["large chunks", undefined, 40, 60_000],
    ["a window beyond what the hub counts", { items: 100_000, bytes: 1e9 }, 3_000, 3_000],
  ] as const) {
    test(`a reader that reads is never stopped: ${what}`, async () => {
      const stream = hub.stream("debug.count", { n, size }, window === undefined ? {} : { window });
      let count = 0;
      const read = (async () => {
        for await (const { index } of stream) {
          assert.equal(index, count);
          count += 1;
        }
      })();
      await within("the stream ends", read);
      assert.equal(count, n);
    });
  }

  test("input: all items, in order, and chunks as they come", async () => {
    const stream = hub.stream<number>("lab.echo_input", {}, { input: numbers() });
    const seen: number[] = [];
    for await (const { data } of stream) {
      seen.push(data);
    }
    assert.deepEqual(seen, Array.from({ length: 1_000 }, (_, n) => n));
    assert.equal(await hub.call("lab.sum", { start: 10 }, { input: [1, 2, 3] }), 16);
    assert.equal(await hub.call("lab.sum", {}, { input: [] }), 0);
  });

  test("input is read no further than the method takes it, and is left when the call ends", async () => {
    const marker = join(folder, "picky");
    writeFileSync(marker, "");
    let produced = 0;
    let isLeft = false;
    async function* endless(): AsyncGenerator<number> {
      try {
        for (;;) {
          produced += 1;
          yield produced;
        }
      } finally {
        isLeft = true;
      }
    }
    const controller = new AbortController();
    const call = hub.call("lab.picky", { marker }, { input: endless(), signal: controller.signal });
    while (!existsSync(`${marker}.started`)) {
      await pause(5);
    }
    await within("all that it may send is sent", until(() => produced >= 65));
    await pause(200);
    assert.equal(produced, 65, "64 are sent, one waits");
    controller.abort();
    await rejection(call);
    await within("the input is closed", until(() => isLeft));
  });

  test("large items go through, however large", async () => {
    const items = Array.from({ length: 12 }, (_, n) => "ü".repeat(50_000 + n));
    const seen: string[] = [];
    for await (const { data } of hub.stream<string>("lab.echo_input", {}, { input: items })) {
      seen.push(data);
    }
    assert.deepEqual(seen, items);
  });

  test("an input that throws, or gives what JSON lacks, cancels the call", async () => {
    const bug = new Error("bug in the caller");
    let isLeft = false;
    function* throwing(): Generator<number> {
      yield 1;
      throw bug;
    }
    function* inexact(): Generator {
      try {
        yield 1;
        yield Number.NaN;
      } finally {
        isLeft = true;
      }
    }
    assert.equal(await rejection(hub.call("lab.sum", {}, { input: throwing() })), bug);
    assert.match(String(await rejection(hub.call("lab.sum", {}, { input: inexact() }))), /params\.data is NaN/u);
    await within("the input is closed", until(() => isLeft));
    assert.ok((await rejection(hub.call("lab.sum", {}, { input: 7 as never }))) instanceof TypeError);
  });

  test("a method that takes no input says so, and the input is left", async () => {
    const error = await rejection(hub.call("debug.sleep", { seconds: 30 }, { input: [1] }));
    assert.ok(error instanceof RpcError);
    assert.match(error.message, /takes no input/u);
  });
});
