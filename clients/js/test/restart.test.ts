/**
 * A hub that goes away, and comes back on the same port. Each test ends the hub that it finds, and starts the next one's.
 */
import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { connect } from "../src/index.js";
import { take } from "./support/messages.js";
import { ownPort } from "./support/ports.js";
import { SKIP_WITHOUT_LAB, startHub, type RealHub } from "./support/real-hub.js";
import { lost, requireRefused, SOON, watched } from "./support/resilient.js";
import { PATIENCE, pause, until, within } from "./support/time.js";

describe("hubs that go away", { skip: SKIP_WITHOUT_LAB }, () => {
  let real: RealHub;

  before(async () => {
    real = await startHub({ lab: true, port: await ownPort() });
  });

  after(() => real.kill());

  async function again(): Promise<void> {
    real = await startHub({ lab: true, port: real.port });
  }

  test("killed and restarted: open calls may have run, waiting ones run, all else is there again", async (t) => {
    const { hub, ...client } = await watched(t, real.url);
    const { states } = client;
    const open = hub.call("debug.sleep", { seconds: 30 });
    const stream = hub.stream("debug.count", { n: 1_000, interval_ms: 50 });
    const iterator = stream[Symbol.asyncIterator]();
    await iterator.next();
    const failures = Promise.all([lost(open), lost(stream.result)]);
    const topic = await hub.subscribe("restart.a");
    const pattern = await hub.subscribe("restart.*");
    await hub.publish("restart.a", 1);
    assert.match((await take(topic, 1)).join(), /restart\.a:1$/u);
    await hub.register("node.again", ({ n }: { n: number }) => n * 2);
    await real.kill();
    const waiting = hub.call("debug.echo", { value: "waited" }, { timeoutMs: PATIENCE });
    await again();
    assert.equal(await within("the call that waited", waiting), "waited");
    for (const { maybeExecuted, sessionEnd } of await failures) {
      assert.deepEqual([maybeExecuted, sessionEnd], [true, "unknown"]);
    }
    await hub.publish("restart.a", "new epoch");
    const seen: string[] = [];
    for await (const message of topic) {
      seen.push(message.kind === "event" ? String(message.data) : message.reason);
      if (seen.includes("new epoch")) {
        break;
      }
    }
    assert.deepEqual(seen.filter((what) => what !== "epoch"), ["new epoch"]);
    const reasons: string[] = [];
    for await (const message of pattern) {
      reasons.push(message.kind === "event" ? String(message.data) : message.reason);
      if (reasons.includes("new epoch")) {
        break;
      }
    }
    assert.ok(reasons.includes("epoch"), reasons.join());
    assert.ok(!reasons.includes("disconnected"), reasons.join());
    const caller = await connect(real.url);
    t.after(() => caller.close());
    assert.equal(await caller.call("node.again", { n: 21 }), 42);
    assert.equal(states.at(-1)?.state, "connected");
  });

  test("killed after it ran a call with a key, before it answered: it runs once, and its caller is told", async (t) => {
    const folder = await mkdtemp(join(tmpdir(), "trunkline-keyed-"));
    t.after(() => rm(folder, { recursive: true }));
    const marker = join(folder, "runs");
    const client = await watched(t, real.url, { retry: { attempts: 500, baseDelayMs: 50, factor: 1 } });
    const keyed = Promise.allSettled([client.hub.call("lab.counted_wait", { marker }, { idempotencyKey: "k", timeoutMs: PATIENCE })]);
    const harmless = client.hub.call("lab.upper", { text: "a" }, { idempotent: true, idempotencyKey: "u" });
    assert.equal(await harmless, "A");
    const runs = (): string => (existsSync(marker) ? readFileSync(marker, "utf8") : "");
    await within("it runs", until(() => runs() !== ""));
    await real.kill();
    await again();
    const [outcome] = await within("the outcome", keyed);
    assert.ok(outcome.status === "rejected");
    requireRefused(outcome.reason);
    assert.equal(runs(), "x");
    assert.equal(await client.hub.call("lab.upper", { text: "a" }, { idempotencyKey: "u" }), "A", "a new call is none");
  });

  test("stopped and started again with work in flight: no call fails, whenever it is made", async (t) => {
    const [hub, worker] = await Promise.all([connect(real.url, { reconnect: SOON }), connect(real.url)]);
    t.after(() => Promise.all([hub.close(), worker.close()]));
    const work = worker.call<{ slept: number }>("debug.sleep", { seconds: 1 });
    await worker.call("rpc.ping");
    const calls: Promise<number>[] = [];
    const callOnce = (): void => {
      calls.push(hub.call<number>("debug.echo", { value: calls.length }, { timeoutMs: PATIENCE }));
    };
    callOnce();
    const next = (async () => {
      await real.stop();
      // While there is no hub at all, and while one starts.
      callOnce();
      const starting = again();
      callOnce();
      await starting;
      return true;
    })();
    for (let isBack = false; !isBack; ) {
      callOnce();
      isBack = await Promise.race([next, pause(50).then(() => false)]);
    }
    callOnce();
    assert.deepEqual(await within("all calls", Promise.all(calls)), [...calls.keys()]);
    assert.equal((await work).slept, 1);
  });
});
