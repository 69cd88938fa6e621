/**
 * Hubs that go away: killed, restarted, or out of patience.
 */
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test, type TestContext } from "node:test";
import { connect, ConnectError, DisconnectedError, RpcError, type ConnectOptions } from "../src/index.js";
import { Proxy } from "./support/proxy.js";
import { SKIP_WITHOUT_LAB, startHub, type HubOptions, type RealHub } from "./support/real-hub.js";
import { Watched } from "./support/resilient.js";
import { rejection } from "./support/scripted.js";
import { pause, within } from "./support/time.js";

async function brief(t: TestContext, options: HubOptions = {}): Promise<RealHub> {
  const real = await startHub(options);
  t.after(() => real.kill());
  return real;
}

async function watched(t: TestContext, url: string, options?: ConnectOptions): Promise<Watched> {
  const client = await Watched.connect(url, options);
  t.after(() => client.hub.close());
  return client;
}

/** What a promise rejects with, whenever that is. */
async function failure(promise: Promise<unknown>): Promise<DisconnectedError> {
  const [outcome] = await Promise.allSettled([promise]);
  assert.ok(outcome?.status === "rejected", "it was to fail");
  assert.ok(outcome.reason instanceof DisconnectedError, String(outcome.reason));
  return outcome.reason;
}

/** The hub that was asked again said that another one may have executed the call. */
function requireRefused(error: unknown): void {
  assert.ok(error instanceof RpcError, String(error));
  const { idempotency } = error.data as { idempotency?: unknown };
  assert.deepEqual([error.code, error.maybeExecuted, idempotency], [2001, true, "epoch"]);
}

describe("hubs that go away", { skip: SKIP_WITHOUT_LAB }, () => {
  test("killed and restarted: open calls may have run, waiting ones run, all else is there again", async (t) => {
    const first = await brief(t);
    const { hub, ...client } = await watched(t, first.url);
    const { states } = client;
    const open = hub.call("debug.sleep", { seconds: 30 });
    const stream = hub.stream("debug.count", { n: 1_000, interval_ms: 50 });
    const iterator = stream[Symbol.asyncIterator]();
    await iterator.next();
    const failures = Promise.all([failure(open), failure(stream.result)]);
    const topic = await hub.subscribe("restart.a");
    const pattern = await hub.subscribe("restart.*");
    await hub.publish("restart.a", 1);
    await hub.register("node.again", ({ n }: { n: number }) => n * 2);
    await first.kill();
    const waiting = hub.call("debug.echo", { value: "waited" });
    const second = await brief(t, { port: first.port });
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
    assert.equal(seen[0], "1");
    assert.ok(seen.includes("epoch") || seen.length === 2, seen.join());
    const reasons: string[] = [];
    for await (const message of pattern) {
      reasons.push(message.kind === "event" ? String(message.data) : message.reason);
      if (reasons.includes("new epoch")) {
        break;
      }
    }
    assert.ok(reasons.includes("epoch"), reasons.join());
    assert.ok(!reasons.includes("disconnected"), reasons.join());
    const caller = await connect(second.url);
    t.after(() => caller.close());
    assert.equal(await caller.call("node.again", { n: 21 }), 42);
    assert.equal(states.at(-1)?.state, "connected");
  });

  test("a hub that does not wait long enough says so", async (t) => {
    const real = await brief(t, { env: { TRUNKLINE_SESSION_SECONDS: "0.2" } });
    const proxy = await Proxy.start(real.port);
    t.after(() => {
      proxy.stop();
    });
    // Comes back after the hub has lost patience, though its own clock has not.
    const client = await watched(t, proxy.url, { reconnect: { minDelayMs: 60_000, maxDelayMs: 60_000 } });
    const open = failure(client.hub.call("debug.sleep", { seconds: 30 }));
    await client.hub.call("rpc.ping");
    proxy.cut();
    const error = await within("the call is settled", open);
    assert.deepEqual([error.maybeExecuted, error.sessionEnd], [true, undefined]);
    assert.equal(client.states.length, 1, "settled without a connection");
  });

  test("a session the hub ended: what has a key is asked again, what has none may have run", async (t) => {
    const real = await brief(t, { lab: true, env: { TRUNKLINE_OUTBOX_BYTES: "100000" } });
    const proxy = await Proxy.start(real.port);
    t.after(() => {
      proxy.stop();
    });
    const { hub, ...client } = await watched(t, proxy.url, { retry: { baseDelayMs: 1 } });
    const keyed = hub.call<string>("lab.later", { seconds: 0.05, size: 10 }, { idempotencyKey: "a" });
    const large = Array.from({ length: 3 }, () => failure(hub.call("lab.later", { seconds: 0.4, size: 60_000 })));
    await hub.call("rpc.ping");
    proxy.isOpen = false;
    proxy.cut();
    await pause(600);
    proxy.isOpen = true;
    assert.equal(await within("the first outcome", keyed), "y".repeat(10));
    for (const { maybeExecuted, sessionEnd } of await Promise.all(large)) {
      assert.deepEqual([maybeExecuted, sessionEnd], [true, "overflow"]);
    }
    assert.equal(client.states.at(-1)?.state, "connected");
  });

  test("killed after it ran a call with a key, before it answered: it runs once, and its caller is told", async (t) => {
    const first = await brief(t, { lab: true });
    const folder = await mkdtemp(join(tmpdir(), "trunkline-keyed-"));
    t.after(() => rm(folder, { recursive: true }));
    const marker = join(folder, "runs");
    const client = await watched(t, first.url, { retry: { attempts: 500, baseDelayMs: 50, factor: 1 } });
    const keyed = Promise.allSettled([client.hub.call("lab.counted_wait", { marker }, { idempotencyKey: "k" })]);
    const harmless = client.hub.call("lab.upper", { text: "a" }, { idempotent: true, idempotencyKey: "u" });
    assert.equal(await harmless, "A");
    while (!existsSync(marker)) {
      await pause(5);
    }
    await first.kill();
    await brief(t, { lab: true, port: first.port });
    const [outcome] = await within("the outcome", keyed);
    assert.ok(outcome.status === "rejected");
    requireRefused(outcome.reason);
    assert.equal(await readFile(marker, "utf8"), "x");
    assert.equal(await client.hub.call("lab.upper", { text: "a" }, { idempotencyKey: "u" }), "A", "a new call is none");
  });

  for (const [when, delayMs, awayMs] of [
    ["while the client is connected to another", 2_000, 0],
    ["while there is no hub", 200, 600],
  ] as const) {
    test(`a call with a key that may have been executed is not for another hub: due ${when}`, async (t) => {
      const hubs = await Promise.all([brief(t), brief(t)]);
      let executed = 0;
      for (const { url } of hubs) {
        const callee = await watched(t, url);
        await callee.hub.register("node.half", () => {
          executed += 1;
          throw new RpcError({ code: 2001, message: "died", data: { retryable: true, maybe_executed: true } });
        });
      }
      const proxy = await Proxy.start(hubs[0].port);
      t.after(() => {
        proxy.stop();
      });
      const client = await watched(t, proxy.url, { retry: { baseDelayMs: delayMs } });
      // Delays are drawn: the first drawn is that of the call, which has failed.
      const failed = new Promise<void>((resolve) => {
        t.mock.method(Math, "random", () => {
          resolve();
          return 1;
        });
      });
      const call = rejection(client.hub.call("node.half", {}, { idempotencyKey: "k" }));
      await within("the first attempt", failed);
      proxy.isOpen = false;
      await hubs[0].kill();
      await client.until("lost");
      await pause(awayMs);
      proxy.port = hubs[1].port;
      proxy.isOpen = true;
      const error = await within("the outcome", call);
      await client.until("anew");
      requireRefused(error);
      await client.hub.call("rpc.ping");
      assert.equal(executed, 1);
    });
  }

  test("close() ends the session at the hub at once, with its calls", async (t) => {
    const real = await brief(t);
    const watcher = await connect(real.url);
    t.after(() => watcher.close());
    const client = await watched(t, real.url);
    const open = failure(client.hub.call("debug.sleep", { seconds: 30 }));
    await client.hub.call("rpc.ping");
    await client.hub.close();
    assert.equal((await open).maybeExecuted, true);
    for (;;) {
      const { active_requests: active } = await watcher.call<{ active_requests: number }>("health.check");
      if (active <= 1) {
        break;
      }
      await pause(10);
    }
    assert.deepEqual(client.story, ["closed 1000"]);
    assert.equal(client.hub.connectionState, "closed");
  });

  test("close() while there is no hub does not hang, and is no reconnect", async (t) => {
    const real = await brief(t);
    const client = await watched(t, real.url);
    const open = failure(client.hub.call("debug.sleep", { seconds: 30 }));
    await client.hub.call("rpc.ping");
    await real.kill();
    await client.until("lost", 2);
    const waiting = failure(client.hub.call("debug.echo"));
    await within("close", client.hub.close());
    assert.deepEqual([(await open).maybeExecuted, (await waiting).maybeExecuted], [true, false]);
    assert.equal(client.story.at(-1), "closed 1000");
  });

  test("close() does not wait for a hub that says nothing", async (t) => {
    const real = await brief(t);
    const proxy = await Proxy.start(real.port);
    t.after(() => {
      proxy.stop();
    });
    const client = await watched(t, proxy.url);
    proxy.stall();
    await within("close", client.hub.close());
    assert.equal((await client.hub.closed).code, 1000);
  });

  test("more sessions than the hub has room for: it goes on without one", async (t) => {
    const real = await brief(t, { env: { TRUNKLINE_MAX_SESSIONS: "1" } });
    const one = await watched(t, real.url);
    const two = await watched(t, real.url);
    assert.deepEqual(one.warnings, []);
    assert.match(two.warnings.join(), /no session.*2003/u);
    assert.equal(await two.hub.call("debug.echo", { value: 1 }), 1);
  });

  test("a token that runs out is asked for again", async (t) => {
    const real = await brief(t, { env: { TRUNKLINE_TOKEN: "right" } });
    const proxy = await Proxy.start(real.port);
    t.after(() => {
      proxy.stop();
    });
    const tokens = ["right", "wrong", new Error("no token now"), "right"];
    const asked: unknown[] = [];
    const token = async (): Promise<string> => {
      await pause(1);
      const next = tokens.shift() ?? "right";
      asked.push(next);
      if (next instanceof Error) {
        throw next;
      }
      return next;
    };
    const client = await watched(t, proxy.url, { token });
    const open = client.hub.call<{ slept: number }>("debug.sleep", { seconds: 0.3 });
    await client.hub.call("rpc.ping");
    proxy.cut();
    assert.equal((await open).slept, 0.3);
    assert.deepEqual(client.story, ["try 1", "try 2", "try 3", "resumed"]);
    assert.equal(asked.length, 4);
    const failed = client.states[2];
    assert.match(failed?.state === "reconnecting" ? failed.cause.reason : "", /no token now/u);
    const refused = await rejection(connect(real.url, { token: () => "wrong" }));
    assert.ok(refused instanceof ConnectError);
  });
});
