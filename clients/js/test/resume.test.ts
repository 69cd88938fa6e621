/**
 * Cuts between this client and the real hub.
 */
import assert from "node:assert/strict";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test, type TestContext } from "node:test";
import { connect, DisconnectedError, type ConnectOptions } from "../src/index.js";
import { take } from "./support/messages.js";
import { Proxy } from "./support/proxy.js";
import { SKIP_WITHOUT_LAB, startHub, type RealHub } from "./support/real-hub.js";
import { Watched } from "./support/resilient.js";
import { rejection } from "./support/scripted.js";
import { PATIENCE, pause, until, within } from "./support/time.js";

describe("cuts", { skip: SKIP_WITHOUT_LAB }, () => {
  let real: RealHub;
  let folder: string;

  before(async () => {
    real = await startHub({ lab: true });
    folder = mkdtempSync(join(tmpdir(), "trunkline-cuts-"));
  });

  after(async () => {
    await real.stop();
    rmSync(folder, { recursive: true });
  });

  async function through(t: TestContext, options?: ConnectOptions): Promise<{ proxy: Proxy; watched: Watched }> {
    const proxy = await Proxy.start(real.port);
    const watched = await Watched.connect(proxy.url, options);
    t.after(async () => {
      await watched.hub.close();
      proxy.stop();
      assert.deepEqual(watched.warnings, []);
    });
    return { proxy, watched };
  }

  test("a call goes on while its client is away", async (t) => {
    const { proxy, watched } = await through(t);
    const sleeping = watched.hub.call<{ slept: number }>("debug.sleep", { seconds: 1 });
    await watched.hub.call("debug.echo", { value: 1 });
    proxy.cut();
    assert.equal((await sleeping).slept, 1);
    await watched.until("resumed");
    assert.deepEqual(watched.story, ["try 1", "resumed"]);
    assert.equal(watched.hub.connectionState, "connected");
  });

  test("what runs once runs once, however often the connection is cut in the middle of a frame", async (t) => {
    const { proxy, watched } = await through(t);
    const marker = join(folder, "runs");
    writeFileSync(marker, "");
    const calls: Promise<unknown>[] = [];
    for (let round = 1; round <= 10; round += 1) {
      proxy.budget = 100 + ((round * 222) % 500);
      for (let n = 0; n < 6; n += 1) {
        calls.push(watched.hub.call("lab.counted_run", { marker }));
      }
      if (round % 2 === 0) {
        // Then in the middle of the handshake, or of what is sent again, too.
        await watched.until("lost", watched.states.filter(({ state }) => state === "reconnecting").length + 1);
        proxy.budget = 100 + ((round * 111) % 500);
      }
      await watched.until("resumed", round);
    }
    await within("all calls", Promise.all(calls));
    assert.equal(readFileSync(marker, "utf8").length, 60);
    assert.ok(!watched.story.includes("anew"));
  });

  test("a stream is whole across cuts and splits", async (t) => {
    const { proxy, watched } = await through(t);
    proxy.split(7);
    const indices: number[] = [];
    const stream = watched.hub.stream<unknown, { chunks: number }>("debug.count", { n: 300, interval_ms: 1, size: 200 });
    for await (const { index } of stream) {
      indices.push(index);
      if (index % 70 === 60) {
        proxy.cut();
      }
    }
    assert.deepEqual(indices, Array.from({ length: 300 }, (_, n) => n));
    assert.deepEqual(await stream.result, { chunks: 300 });
    assert.ok(watched.story.includes("resumed"));
  });

  test("a hub that says nothing any more is left after a ping", async (t) => {
    const { proxy, watched } = await through(t, { pingIntervalMs: 200, pingTimeoutMs: 500 });
    const sleeping = watched.hub.call<{ slept: number }>("debug.sleep", { seconds: 0.3 });
    proxy.stall();
    assert.equal((await within("the reply", sleeping)).slept, 0.3);
    assert.ok(watched.story.includes("resumed") && !watched.story.includes("anew"), watched.story.join());
    const [state] = watched.states;
    assert.deepEqual(state?.state === "reconnecting" && state.cause, { code: 1006, reason: "the hub is silent" });
  });

  test("a quiet connection is kept", async (t) => {
    const { watched } = await through(t, { pingIntervalMs: 20, pingTimeoutMs: PATIENCE });
    await pause(300);
    assert.deepEqual(watched.story, []);
  });

  test("events after a cut are recovered, those of patterns and of topics that are new, too", async (t) => {
    const { proxy, watched } = await through(t);
    const publisher = await connect(real.url);
    const topic = await watched.hub.subscribe("cut.a");
    const second = await watched.hub.subscribe("cut.a");
    const pattern = await watched.hub.subscribe("cut.*");
    const other = await watched.hub.subscribe("cut.*");
    await publisher.publish("cut.a", 1);
    const [first = ""] = await take(topic, 1);
    const place = first.slice(0, first.lastIndexOf(":"));
    proxy.isOpen = false;
    proxy.cut();
    await watched.until("lost");
    await publisher.publish("cut.a", 2);
    await publisher.publish("cut.b", 1);
    proxy.isOpen = true;
    await watched.until("resumed");
    await watched.hub.call("rpc.ping");
    await publisher.publish("cut.a", 3);
    await publisher.close();
    assert.deepEqual(await take(topic, 2), [`${place}:2`, `${place}:3`]);
    assert.deepEqual(await take(second, 3), [`${place}:1`, `${place}:2`, `${place}:3`]);
    for (const reader of [pattern, other]) {
      const came = await take(reader, 4);
      assert.deepEqual(came.filter((words) => words.startsWith(`${place}:`)), [`${place}:1`, `${place}:2`, `${place}:3`]);
      assert.equal(came.filter((words) => words.includes("cut.b:1")).length, 1, came.join());
    }
  });

  test("subscribing, unsubscribing and pinging in the moment of a cut", async (t) => {
    const { proxy, watched } = await through(t);
    const { hub } = watched;
    const left = await hub.subscribe("moment.b");
    proxy.stall();
    const asked = [hub.subscribe("moment.a"), hub.call("rpc.ping"), left.unsubscribe()] as const;
    await pause(20);
    proxy.cut();
    const [subscription] = await within("all are answered", Promise.all(asked));
    await hub.publish("moment.a", "here");
    assert.match((await take(subscription, 1)).join(), /moment\.a:1$/u);
  });

  test("what is asked without a connection waits for one, in order", async (t) => {
    const { proxy, watched } = await through(t);
    const { hub } = watched;
    proxy.isOpen = false;
    proxy.cut();
    await watched.until("lost");
    const subscribing = hub.subscribe("offline.a");
    hub.notify("publish", { topic: "offline.a", data: "told" });
    const stream = hub.stream("debug.count", { n: 3 });
    const call = hub.call("debug.echo", { value: 7 }, { timeoutMs: PATIENCE });
    await watched.until("lost", 3);
    proxy.isOpen = true;
    assert.equal(await call, 7);
    const indices: number[] = [];
    for await (const { index } of stream) {
      indices.push(index);
    }
    assert.deepEqual(indices, [0, 1, 2]);
    assert.match((await take(await subscribing, 1)).join(), /offline\.a:1$/u);
  });

  test("without a session a cut ends what was sent, and nothing else", async (t) => {
    const { proxy, watched } = await through(t, { session: false, retry: false });
    const { hub } = watched;
    const sent = hub.call("debug.sleep", { seconds: 30 });
    const stream = hub.stream("debug.sleep", { seconds: 30 });
    await hub.call("rpc.ping");
    const subscription = await hub.subscribe("plain.a");
    proxy.cut();
    await watched.until("lost");
    const waiting = hub.call("debug.echo", { value: 1 });
    for (const outcome of [sent, stream.result]) {
      const error = await rejection(outcome);
      assert.ok(error instanceof DisconnectedError);
      assert.equal(error.maybeExecuted, true);
    }
    assert.equal(await waiting, 1);
    await hub.publish("plain.a", 1);
    assert.match((await take(subscription, 1)).join(), /plain\.a:1$/u);
    assert.deepEqual(watched.story.filter((word) => !word.startsWith("try")), ["anew"]);
  });

  test("an idempotent call is made again when nobody knows what became of it", async (t) => {
    const { proxy, watched } = await through(t, { session: false });
    const call = watched.hub.call<{ slept: number }>("debug.sleep", { seconds: 0.3 }, {
      idempotent: true,
      retry: { baseDelayMs: 1 },
    });
    await watched.hub.call("rpc.ping");
    proxy.cut();
    assert.equal((await call).slept, 0.3);
  });

  test("the work of a call that is cancelled while its client is away ends", async (t) => {
    const { proxy, watched } = await through(t);
    const marker = join(folder, "cancelled");
    const controller = new AbortController();
    const call = watched.hub.call("lab.cleanup", { marker }, { signal: controller.signal });
    await exists(`${marker}.started`);
    proxy.isOpen = false;
    proxy.cut();
    await watched.until("lost");
    controller.abort();
    assert.ok((await rejection(call)) instanceof Error);
    proxy.isOpen = true;
    await exists(marker);
  });
});

async function exists(file: string): Promise<void> {
  await within(`${file} comes about`, until(() => existsSync(file)));
}
