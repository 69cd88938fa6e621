/**
 * Publish and subscribe against the real hub.
 */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { WebSocket } from "ws";
import { connect, RpcError, type Hub } from "../src/index.js";
import { drain, take } from "./support/messages.js";
import { SKIP_WITHOUT_HUB, startHub, type RealHub } from "./support/real-hub.js";
import { rejection } from "./support/scripted.js";
import { PATIENCE } from "./support/time.js";

/** `prefix:1` to `prefix:n`, of whatever epoch. */
function numbered(prefix: string, from: number, to: number): string[] {
  return Array.from({ length: to - from + 1 }, (_, n) => `${prefix}:${from + n}`);
}

/** Without the epochs, which a real hub makes up. */
function bare(messages: readonly string[]): string[] {
  return messages.map((message) => message.replace(/^[^/]*\//u, ""));
}

describe("publish and subscribe at the real hub", { skip: SKIP_WITHOUT_HUB }, () => {
  let real: RealHub;
  let hub: Hub;
  const warnings: string[] = [];
  const onWarning = (message: string): void => {
    warnings.push(message);
  };

  before(async () => {
    // One that does not read answers no pings either, as long as it takes.
    real = await startHub({ env: { TRUNKLINE_PING_TIMEOUT: "600" } });
    hub = await connect(real.url, { onWarning });
  });

  after(async () => {
    await hub.close();
    await real.stop();
    assert.deepEqual(warnings, []);
  });

  test("who joins late gets the latest events first", async () => {
    for (const n of [1, 2, 3, 4, 5]) {
      await hub.publish("late.a", n);
    }
    const live = await hub.subscribe("late.a");
    const late = await hub.subscribe("late.a", { history: 3 });
    assert.deepEqual([late.recovered, late.position?.offset], [true, 2]);
    await hub.publish("late.a", 6);
    assert.deepEqual(bare(await take(late, 4)), numbered("late.a", 3, 6));
    assert.deepEqual(bare(await take(live, 1)), ["late.a:6"]);
    await Promise.all([live.unsubscribe(), late.unsubscribe()]);
    const refused = await rejection(hub.subscribe("late.*", { history: 1 }));
    assert.ok(refused instanceof RpcError && refused.code === -32602);
  });

  test("what is published arrives, in order, with the positions publish answered", async () => {
    const subscription = await hub.subscribe<number>("order.a");
    const published = await Promise.all(Array.from({ length: 200 }, (_, n) => hub.publish("order.a", n)));
    assert.deepEqual(published.map(({ offset }) => offset), Array.from({ length: 200 }, (_, n) => n + 1));
    const got: unknown[] = [];
    for await (const message of subscription) {
      assert.ok(message.kind === "event");
      assert.ok(Math.abs(message.publishedAt - Date.now()) < 60_000);
      assert.equal(message.publisher, "anonymous");
      got.push({ topic: message.topic, epoch: message.epoch, offset: message.offset });
      if (got.length === 200) {
        break;
      }
    }
    assert.deepEqual(got, published);
  });

  test("every JSON value arrives unchanged", async () => {
    const values = ["naïve 🎉", 0, -1.5, true, null, [], [1, [2]], { deep: [{ er: null }] }, "x".repeat(100_000)];
    const subscription = await hub.subscribe("values");
    for (const value of values) {
      await hub.publish("values", value);
    }
    const got: unknown[] = [];
    for await (const message of subscription) {
      got.push(message.kind === "event" ? message.data : message);
      if (got.length === values.length) {
        break;
      }
    }
    assert.deepEqual(got, values);
  });

  test("overlapping subscriptions get each event once; none after unsubscribing", async () => {
    const topics = ["over.a.b", "over.*.b", "over.>", "over.a.b"];
    const subscriptions = await Promise.all(topics.map((topic) => hub.subscribe(topic)));
    for (let n = 0; n < 5; n += 1) {
      await hub.publish("over.a.b", n);
    }
    for (const subscription of subscriptions) {
      assert.deepEqual(bare(await take(subscription, 5)), numbered("over.a.b", 1, 5), subscription.topic);
    }
    const [first, ...others] = subscriptions;
    await first?.unsubscribe();
    await hub.publish("over.a.b", "more");
    for (const subscription of others) {
      assert.deepEqual(bare(await take(subscription, 1)), ["over.a.b:6"], subscription.topic);
      await subscription.unsubscribe();
    }
    await hub.publish("over.a.b", "for nobody");
  });

  test("a cut connection, and everything missed comes, once and in order", async () => {
    const doomed = await connect(real.url, { onWarning });
    const [first, other] = [await doomed.subscribe("cut.a"), await doomed.subscribe("cut.a")];
    for (let n = 1; n <= 3; n += 1) {
      await hub.publish("cut.a", n);
    }
    assert.deepEqual(bare(await take(first, 2)), numbered("cut.a", 1, 2));
    assert.deepEqual(bare(await take(other, 3)), numbered("cut.a", 1, 3), "the third is here");
    await doomed.close();
    assert.equal((await drain(first)).error, undefined);
    await hub.publish("cut.a", 4);
    const since = await hub.subscribe("cut.a", { recover: first.position });
    assert.equal(since.recovered, true);
    await hub.publish("cut.a", 5);
    assert.deepEqual(bare(await take(since, 2)), numbered("cut.a", 4, 5), "the third was read before the end");
    await since.unsubscribe();
  });

  test("a replay beside a live subscription doubles nothing", async () => {
    const live = await hub.subscribe("replay.a");
    const pattern = await hub.subscribe("replay.*");
    const publishing = Promise.all(Array.from({ length: 50 }, (_, n) => hub.publish("replay.a", n)));
    const [{ epoch }] = await Promise.all([hub.publish("replay.a", "first or last"), publishing]);
    const again = await hub.subscribe("replay.a", { recover: { epoch, offset: 10 } });
    await hub.publish("replay.a", "end");
    assert.deepEqual(bare(await take(live, 52)), numbered("replay.a", 1, 52));
    assert.deepEqual(bare(await take(pattern, 52)), numbered("replay.a", 1, 52));
    assert.deepEqual(bare(await take(again, 42)), numbered("replay.a", 11, 52));
    await Promise.all([live, pattern, again].map((subscription) => subscription.unsubscribe()));
  });

  test("what the hub does not keep any more is a gap; so is another epoch", async () => {
    let epoch = "";
    for (let n = 0; n < 300; n += 1) {
      ({ epoch } = await hub.publish("old.a", n));
    }
    const late = await hub.subscribe("old.a", { recover: { epoch, offset: 3 } });
    const foreign = await hub.subscribe("old.a", { recover: { epoch: "another", offset: 3 } });
    assert.deepEqual([late.recovered, foreign.recovered], [false, false]);
    await hub.publish("old.a", "next");
    assert.deepEqual(bare(await take(late, 2)), ["old.a:4-300 history", "old.a:301"]);
    assert.deepEqual(bare(await take(foreign, 2)), ["old.a:1-300 epoch", "old.a:301"]);
    await Promise.all([late.unsubscribe(), foreign.unsubscribe()]);
  });

  test("a connection that does not read loses events, announced, and no calls", async () => {
    const sockets: WebSocket[] = [];
    class Pausable extends WebSocket {
      constructor(url: string, protocols: string[]) {
        super(url, protocols);
        sockets.push(this);
      }
    }
    const slow = await connect(real.url, { WebSocket: Pausable, onWarning, pingTimeoutMs: PATIENCE });
    const subscription = await slow.subscribe("flood.a");
    for (const socket of sockets) {
      socket.pause();
    }
    const answers = Array.from({ length: 20 }, (_, value) => slow.call<number>("debug.echo", { value }));
    const data = "x".repeat(100_000);
    for (let n = 0; n < 300; n += 1) {
      await hub.publish("flood.a", data);
    }
    for (const socket of sockets) {
      socket.resume();
    }
    let at = 0;
    let lost = 0;
    for await (const message of subscription) {
      const [from, to] = message.kind === "event" ? [message.offset, message.offset] : [message.from, message.to];
      assert.equal(from, at + 1);
      at = to;
      if (message.kind === "gap") {
        assert.deepEqual([message.reason, message.count], ["slow_consumer", to - from + 1]);
        lost += to - from + 1;
      }
      if (at === 300) {
        break;
      }
    }
    assert.ok(lost > 0, "30 MB fitted into the buffers of this machine: nothing was tested");
    assert.deepEqual(await Promise.all(answers), [...answers.keys()]);
    await slow.close();
  });

  test("the same idempotency key is the same event", async () => {
    const first = await hub.publish("once.a", 1, { idempotencyKey: "k" });
    assert.deepEqual(await hub.publish("once.a", 1, { idempotencyKey: "k" }), first);
  });

  test("the hub speaks of itself", async () => {
    const metrics = await hub.subscribe<{ connections: number }>("system.metrics");
    for await (const message of metrics) {
      assert.ok(message.kind === "event" && message.data.connections >= 1);
      break;
    }
  });

  test("topics that are none, history of a pattern, and the hub's own topics are refused", async () => {
    const attempts = [
      [hub.subscribe("a..b"), "INVALID_PARAMS"],
      [hub.subscribe("a.>.b"), "INVALID_PARAMS"],
      [hub.subscribe("a.*", { history: 1 }), "INVALID_PARAMS"],
      [hub.publish("a.*", 1), "INVALID_PARAMS"],
      [hub.publish("system.mine", 1), "FORBIDDEN"],
    ] as const;
    // All at once: one that is refused before it is awaited would be a rejection that nobody handles.
    const errors = await Promise.all(attempts.map(([attempt]) => rejection(attempt)));
    for (const [at, [, name]] of attempts.entries()) {
      const error = errors[at];
      assert.ok(error instanceof RpcError);
      assert.equal(error.errorName, name);
    }
  });
});
