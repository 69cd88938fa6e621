/**
 * How sessions end at the real hub: it has no patience or no room, knows nothing of them, or is told.
 */
import assert from "node:assert/strict";
import { once } from "node:events";
import { after, before, describe, test, type TestContext } from "node:test";
import { connect, RpcError, type Hub } from "../src/index.js";
import { Proxy } from "./support/proxy.js";
import { SKIP_WITHOUT_HUB, startHub, type RealHub } from "./support/real-hub.js";
import { lost, NEVER, requireRefused, watched } from "./support/resilient.js";
import { rejection } from "./support/scripted.js";
import { pause, until, within } from "./support/time.js";

/** 20 messages a second, and callees that are away are waited for meanwhile. */
const FEW = { TRUNKLINE_RATE_LIMIT: "20", TRUNKLINE_RATE_BURST: "10", TRUNKLINE_CALLEE_GRACE: "60" };

async function proxied(t: TestContext, port: number): Promise<Proxy> {
  const proxy = await Proxy.start(port);
  t.after(() => {
    proxy.stop();
  });
  return proxy;
}

/** Waits until the hub works on nothing but the question whether it does. */
async function idle(watcher: Hub): Promise<void> {
  const ask = async (): Promise<void> => {
    while ((await watcher.call<{ active_requests: number }>("health.check")).active_requests > 1) {
      await pause(10);
    }
  };
  await within("the hub has nothing to do", ask());
}

describe("ends of sessions", { skip: SKIP_WITHOUT_HUB }, () => {
  /** Keeps little for a client that is away. */
  let real: RealHub;
  /** Keeps it not for long, and takes few messages at a time. */
  let other: RealHub;

  before(async () => {
    [real, other] = await Promise.all([
      startHub({ env: { TRUNKLINE_OUTBOX_BYTES: "100000" } }),
      startHub({ env: { TRUNKLINE_SESSION_SECONDS: "0.2", ...FEW } }),
    ]);
  });

  after(() => Promise.all([real.kill(), other.kill()]));

  test("a hub that does not wait long enough says so", async (t) => {
    const proxy = await proxied(t, other.port);
    const client = await watched(t, proxy.url, { reconnect: NEVER });
    const open = lost(client.hub.call("debug.sleep", { seconds: 600 }));
    await client.hub.call("rpc.ping");
    proxy.cut();
    const error = await within("the call is settled", open);
    assert.deepEqual([error.maybeExecuted, error.sessionEnd], [true, undefined]);
    assert.equal(client.states.length, 1, "settled without a connection");
  });

  test("a session the hub ended: what has a key is asked again, what has none may have run", async (t) => {
    const callee = await connect(real.url);
    t.after(() => callee.close());
    let begun = 0;
    const finish = new AbortController();
    await callee.register("node.held", async ({ size }: { size: number }) => {
      begun += 1;
      await once(finish.signal, "abort");
      return "y".repeat(size);
    });
    const proxy = await proxied(t, real.port);
    const { hub, ...client } = await watched(t, proxy.url, { retry: { baseDelayMs: 1 } });
    const keyed = hub.call<string>("node.held", { size: 10 }, { idempotencyKey: "a" });
    const large = Array.from({ length: 3 }, () => lost(hub.call("node.held", { size: 60_000 })));
    await within("all four run", until(() => begun === 4));
    proxy.isOpen = false;
    proxy.cut();
    finish.abort();
    await idle(callee);
    proxy.isOpen = true;
    assert.equal(await within("the first outcome", keyed), "y".repeat(10));
    for (const { maybeExecuted, sessionEnd } of await Promise.all(large)) {
      assert.deepEqual([maybeExecuted, sessionEnd], [true, "overflow"]);
    }
    assert.equal(begun, 4, "none runs twice");
    assert.equal(client.states.at(-1)?.state, "connected");
  });

  for (const [when, delayMs, awayMs] of [
    ["while the client is connected to another", 1_000, 0],
    ["while there is no hub", 100, 300],
  ] as const) {
    test(`a call with a key that may have been executed is not for another hub: due ${when}`, async (t) => {
      const method = `node.half.${awayMs}`;
      let executed = 0;
      for (const { url } of [real, other]) {
        const callee = await watched(t, url);
        await callee.hub.register(method, () => {
          executed += 1;
          throw new RpcError({ code: 2001, message: "died", data: { retryable: true, maybe_executed: true } });
        });
      }
      const proxy = await proxied(t, real.port);
      const client = await watched(t, proxy.url, { retry: { baseDelayMs: delayMs } });
      // Delays are drawn: the first drawn is that of the call, which has failed.
      const failed = new Promise<void>((resolve) => {
        t.mock.method(Math, "random", () => {
          resolve();
          return 1;
        });
      });
      const call = rejection(client.hub.call(method, {}, { idempotencyKey: method }));
      await within("the first attempt", failed);
      proxy.isOpen = false;
      proxy.cut();
      await client.until("lost");
      await pause(awayMs);
      proxy.port = other.port;
      proxy.isOpen = true;
      const error = await within("the outcome", call);
      await client.until("anew");
      requireRefused(error);
      await client.hub.call("rpc.ping");
      assert.equal(executed, 1);
    });
  }

  test("all methods come back where the hub takes only some of them at a time", async (t) => {
    const proxy = await proxied(t, other.port);
    const { hub, warnings, ...client } = await watched(t, proxy.url, { session: false, retry: { attempts: 1_000, baseDelayMs: 20, factor: 1 } });
    const names = Array.from({ length: 24 }, (_, n) => `node.many.${n}`);
    for (const name of names) {
      await hub.register(name, () => name);
    }
    proxy.cut();
    await within("it is away", until(() => client.states.some(({ state }) => state === "reconnecting")));
    const caller = await connect(other.url, { retry: { attempts: 1_000, baseDelayMs: 50, factor: 1 } });
    t.after(() => caller.close());
    const calls = Promise.all(names.map((name) => caller.call(name)));
    assert.deepEqual(await within("all are served again", calls), names);
    assert.deepEqual(warnings, []);
  });

  test("close() ends the session at the hub at once, with its calls", async (t) => {
    const watcher = await connect(real.url);
    t.after(() => watcher.close());
    const client = await watched(t, real.url);
    const open = lost(client.hub.call("debug.sleep", { seconds: 600 }));
    await client.hub.call("rpc.ping");
    await client.hub.close();
    assert.equal((await open).maybeExecuted, true);
    await idle(watcher);
    assert.deepEqual(client.story, ["closed 1000"]);
    assert.equal(client.hub.connectionState, "closed");
  });

  test("close() does not wait for a hub that says nothing", async (t) => {
    const proxy = await proxied(t, real.port);
    const client = await watched(t, proxy.url);
    proxy.stall();
    await within("close", client.hub.close());
    assert.equal((await client.hub.closed).code, 1000);
  });

  test("close() while there is no hub does not hang, and is no reconnect", async (t) => {
    const proxy = await proxied(t, real.port);
    const client = await watched(t, proxy.url);
    const open = lost(client.hub.call("debug.sleep", { seconds: 600 }));
    await client.hub.call("rpc.ping");
    proxy.stop();
    await client.until("lost", 2);
    const waiting = lost(client.hub.call("debug.echo"));
    await within("close", client.hub.close());
    assert.deepEqual([(await open).maybeExecuted, (await waiting).maybeExecuted], [true, false]);
    assert.equal(client.story.at(-1), "closed 1000");
  });
});
