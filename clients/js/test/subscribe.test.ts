import assert from "node:assert/strict";
import { getEventListeners } from "node:events";
import { test } from "node:test";
import {
  CancelledError,
  DisconnectedError,
  ProtocolError,
  RpcError,
  type Gap,
  type Hub,
  type SubscribeOptions,
  type Subscription,
} from "../src/index.js";
import { drain, short, take } from "./support/messages.js";
import { NEVER } from "./support/resilient.js";
import { connected, rejection, roundTrip, type Peer } from "./support/scripted.js";
import { pause, within } from "./support/time.js";

/** A subscription to `topic` that the scripted hub confirmed at `offset`. */
async function subscribed(hub: Hub, peer: Peer, offset = 0, options: SubscribeOptions = {}): Promise<Subscription> {
  const [subscription] = await Promise.all([hub.subscribe("a", options), peer.subscribed(offset)]);
  return subscription;
}

test("the request, the subscription, and an event", async (t) => {
  const { hub, peer, warnings } = await connected(t);
  const [subscription, { id, ...sent }] = await Promise.all([hub.subscribe<number>("a"), peer.subscribed(17)]);
  assert.deepEqual(sent, { jsonrpc: "2.0", method: "subscribe", params: { topic: "a" } });
  const { topic, recovered, position } = subscription;
  assert.deepEqual([typeof id, topic, recovered, position], ["number", "a", false, { epoch: "e1", offset: 17 }]);
  peer.event("a", 18, { done: 7 });
  for await (const message of subscription) {
    assert.deepEqual(message, {
      kind: "event",
      topic: "a",
      data: { done: 7 },
      epoch: "e1",
      offset: 18,
      publishedAt: 1_765_432_100_018,
      publisher: undefined,
      tenant: undefined,
    });
    assert.deepEqual(subscription.position, { epoch: "e1", offset: 18 });
    break;
  }
  assert.deepEqual(warnings, []);
});

test("events in the same turn as the reply are not missed", async (t) => {
  const { hub, peer, warnings } = await connected(t);
  const subscribing = hub.subscribe("a");
  const { id } = await peer.next();
  peer.together(() => {
    peer.result(id, { topic: "a", epoch: "e1", offset: 0, recovered: false });
    peer.event("a", 1);
    peer.gap("a", 2, 3);
    peer.event("a", 4);
  });
  assert.deepEqual(await take(await subscribing, 3), ["a:1", "a:2-3 slow_consumer", "a:4"]);
  assert.deepEqual(warnings, []);
});

test("with recover what was missed comes first; only epoch and offset are sent", async (t) => {
  const { hub, peer } = await connected(t);
  const last = { epoch: "e1", offset: 4, topic: "a", data: "an event will do" };
  const [subscription, { params }] = await Promise.all([
    hub.subscribe("a", { recover: last }),
    peer.subscribed(4, true),
  ]);
  assert.deepEqual(params, { topic: "a", recover: { epoch: "e1", offset: 4 } });
  assert.deepEqual([subscription.recovered, subscription.position], [true, { epoch: "e1", offset: 4 }]);
  for (const offset of [5, 6, 7]) {
    peer.event("a", offset);
  }
  assert.deepEqual(await take(subscription, 3), ["a:5", "a:6", "a:7"]);
});

test("what cannot be recovered is a gap, once, before anything else", async (t) => {
  const { hub, peer } = await connected(t);
  const heard: Gap[] = [];
  const recover = { epoch: "e1", offset: 4 };
  const onGap = (gap: Gap): void => {
    heard.push(gap);
  };
  const subscription = await subscribed(hub, peer, 9, { recover, onGap });
  peer.gap("a", 5, 9, { reason: "history" });
  peer.event("a", 10);
  assert.equal(subscription.recovered, false);
  assert.deepEqual(subscription.position, recover, "the loop has not been told of the gap yet");
  assert.deepEqual(heard, []);
  assert.deepEqual(await take(subscription, 1), ["a:5-9 history"]);
  assert.deepEqual(subscription.position, { epoch: "e1", offset: 9 });
  assert.deepEqual(heard, [{ kind: "gap", topic: "a", epoch: "e1", from: 5, to: 9, count: 5, reason: "history" }]);
  assert.deepEqual(await take(subscription, 1), ["a:10"]);
  assert.equal(heard.length, 1);
});

for (const [what, recover, head, gap] of [
  ["of another epoch", { epoch: "e0", offset: 4 }, 9, "a:1-9 epoch"],
  ["of another epoch in which nothing was published", { epoch: "e0", offset: 4 }, 0, "a:1-0 epoch"],
  ["beyond the head", { epoch: "e1", offset: 40 }, 9, "a:1-9 epoch"],
] as const) {
  test(`a position ${what} is an epoch gap`, async (t) => {
    const { hub, peer } = await connected(t);
    const subscription = await subscribed(hub, peer, head, { recover });
    peer.gap("a", 1, head, { reason: "epoch" });
    peer.event("a", head + 1);
    assert.deepEqual(await take(subscription, 2), [gap, `a:${head + 1}`]);
  });
}

test("gaps are in the loop, in order, and onGap hears of each", async (t) => {
  const { hub, peer } = await connected(t);
  const heard: [string, number | undefined][] = [];
  const subscription = await subscribed(hub, peer, 0, {
    onGap: (gap) => {
      heard.push([short(gap), gap.count]);
    },
  });
  peer.event("a", 1);
  peer.gap("a", 2, 5);
  peer.event("a", 6);
  peer.event("a", 9);
  const expected = ["a:1", "a:2-5 slow_consumer", "a:6", "a:7-8 missing", "a:9"];
  assert.deepEqual(await take(subscription, 5), expected);
  assert.deepEqual(heard, [
    ["a:2-5 slow_consumer", 4],
    ["a:7-8 missing", 2],
  ]);
});

test("an onGap that throws ends loop and subscription", async (t) => {
  const { hub, peer } = await connected(t);
  const bug = new Error("bug in the caller");
  const subscription = await subscribed(hub, peer, 0, {
    onGap: () => {
      throw bug;
    },
  });
  peer.event("a", 1);
  peer.gap("a", 2, 5);
  assert.deepEqual(await drain(subscription), { messages: ["a:1"], error: bug });
  await peer.unsubscribed("a");
});

test("a slow reader loses the oldest, which is announced, and the position is the reader's", async (t) => {
  const { hub, peer } = await connected(t);
  const subscription = await subscribed(hub, peer, 0, { maxQueued: 3 });
  for (let offset = 1; offset <= 10; offset += 1) {
    peer.event("a", offset);
  }
  await roundTrip(hub, peer);
  assert.deepEqual(subscription.position, { epoch: "e1", offset: 0 });
  assert.deepEqual(await take(subscription, 1), ["a:1-7 client_slow"]);
  assert.deepEqual(subscription.position, { epoch: "e1", offset: 7 });
  assert.deepEqual(await take(subscription, 3), ["a:8", "a:9", "a:10"]);
});

test("1024 messages wait unless told otherwise", async (t) => {
  const { hub, peer } = await connected(t);
  const subscription = await subscribed(hub, peer);
  for (let offset = 1; offset <= 1_025; offset += 1) {
    peer.event("a", offset);
  }
  await roundTrip(hub, peer);
  assert.deepEqual(await take(subscription, 2), ["a:1-1 client_slow", "a:2"]);
});

for (const leave of ["break", "return", "throw"] as const) {
  test(`leaving the loop by ${leave} unsubscribes, without waiting for the hub`, async (t) => {
    const { hub, peer, warnings } = await connected(t);
    const subscription = await subscribed(hub, peer);
    peer.event("a", 1);
    peer.event("a", 2);
    assert.equal(await within("the loop is left", firstOnly(subscription, leave)), "a:1");
    const { method, id } = await peer.next();
    assert.equal(method, "unsubscribe");
    peer.event("a", 3);
    peer.result(id, { topic: "a", unsubscribed: true });
    await roundTrip(hub, peer);
    peer.gap("a", 3, 4);
    await roundTrip(hub, peer);
    assert.deepEqual(await drain(subscription), { messages: [], error: undefined });
    assert.deepEqual(warnings, [], "events that were on their way are no surprise");
  });
}

async function firstOnly(subscription: Subscription, leave: "break" | "return" | "throw"): Promise<unknown> {
  let first: unknown;
  try {
    for await (const message of subscription) {
      first = short(message);
      if (leave === "return") {
        return first;
      }
      if (leave === "throw") {
        throw new Error("enough");
      }
      break;
    }
  } catch {
    // Its own.
  }
  return first;
}

test("unsubscribe resolves with the hub's reply, ends the loop at once, and may be repeated", async (t) => {
  const { hub, peer } = await connected(t);
  const subscription = await subscribed(hub, peer);
  const reading = drain(subscription);
  const leaving = subscription.unsubscribe();
  assert.deepEqual(await reading, { messages: [], error: undefined });
  assert.equal(await Promise.race([leaving, pause(50).then(() => "not yet")]), "not yet");
  await peer.unsubscribed("a");
  await leaving;
  await subscription.unsubscribe();
  await roundTrip(hub, peer);
});

test("await using unsubscribes", async (t) => {
  const { hub, peer } = await connected(t);
  const confirming = (async () => {
    await peer.subscribed(0);
    await peer.unsubscribed("a");
  })();
  {
    await using subscription = await hub.subscribe("a");
    assert.equal(subscription.topic, "a");
  }
  await confirming;
});

test("an unsubscribe the hub refuses warns and resolves", async (t) => {
  const { hub, peer, warnings } = await connected(t);
  const subscription = await subscribed(hub, peer);
  const leaving = subscription.unsubscribe();
  peer.error((await peer.next()).id, 6003);
  await leaving;
  assert.match(warnings.join(), /^unsubscribing from a failed: .*6003/u);
});

test("when the connection ends the loop gives what came, then throws; unsubscribe resolves", async (t) => {
  const { hub, peer, warnings } = await connected(t);
  const read = await subscribed(hub, peer);
  const unread = await subscribed(hub, peer);
  const waiting = await subscribed(hub, peer);
  peer.event("a", 1);
  peer.event("a", 2);
  assert.deepEqual(await take(waiting, 2), ["a:1", "a:2"]);
  const next = rejection(take(waiting, 1));
  const pending = hub.subscribe("b");
  await peer.next();
  peer.close(1012, "restart");
  const { messages, error } = await drain(read);
  assert.deepEqual(messages, ["a:1", "a:2"]);
  assert.ok(error instanceof DisconnectedError);
  assert.deepEqual([error.code, error.reason, error.maybeExecuted], [1012, "restart", false]);
  assert.equal(error.message, "disconnected (close 1012: restart); the subscription ended");
  assert.ok((await next) instanceof DisconnectedError);
  assert.ok((await rejection(pending)) instanceof DisconnectedError);
  assert.ok((await rejection(hub.subscribe("a"))) instanceof DisconnectedError);
  await Promise.all([read.unsubscribe(), unread.unsubscribe(), waiting.unsubscribe()]);
  assert.deepEqual(await drain(unread), { messages: [], error: undefined }, "whoever leaves wants no error");
  assert.deepEqual(read.position, { epoch: "e1", offset: 2 });
  assert.deepEqual(warnings, []);
});

test("nothing listens to the signal of a subscription that has ended", async (t) => {
  const { hub, peer } = await connected(t);
  const { signal } = new AbortController();
  const left = await subscribed(hub, peer, 0, { signal });
  await subscribed(hub, peer, 0, { signal });
  assert.equal(getEventListeners(signal, "abort").length, 1, "one for all of them");
  await left.unsubscribe();
  assert.equal(getEventListeners(signal, "abort").length, 1);
  await hub.close();
  assert.equal(getEventListeners(signal, "abort").length, 0);
});

test("close() ends subscriptions at once: loops are given what came, and end", async (t) => {
  const { hub, peer } = await connected(t);
  const [waiting, unread] = [await subscribed(hub, peer), await subscribed(hub, peer)];
  const next = waiting[Symbol.asyncIterator]().next();
  peer.event("a", 1);
  await next;
  const last = waiting[Symbol.asyncIterator]().next();
  const closing = hub.close();
  assert.deepEqual(await last, { done: true, value: undefined });
  const { messages, error } = await drain(unread);
  assert.deepEqual([messages, error], [["a:1"], undefined]);
  await closing;
});

test("close() while there is no connection ends loops as quietly", async (t) => {
  const { hub, peer } = await connected(t, { reconnect: NEVER });
  const subscription = await subscribed(hub, peer);
  const reading = drain(subscription);
  const lost = new Promise((resolve) => {
    hub.onConnectionState(resolve);
  });
  peer.cut();
  await within("the cut", lost);
  await hub.close();
  assert.equal((await reading).error, undefined);
});

test("an aborted signal: nothing is sent", async (t) => {
  const { hub, peer } = await connected(t);
  assert.ok((await rejection(hub.subscribe("a", { signal: AbortSignal.abort() }))) instanceof CancelledError);
  await roundTrip(hub, peer);
});

test("an abort before the reply cancels, and unsubscribes in case the hub was faster", async (t) => {
  const { hub, peer, warnings } = await connected(t);
  const controller = new AbortController();
  const subscribing = hub.subscribe("a", { signal: controller.signal });
  const { id } = await peer.next();
  controller.abort();
  assert.ok((await rejection(subscribing)) instanceof CancelledError);
  assert.deepEqual((await peer.next()).params, { id });
  peer.result(id, { topic: "a", epoch: "e1", offset: 0, recovered: false });
  peer.event("a", 1);
  await peer.unsubscribed("a");
  await roundTrip(hub, peer);
  assert.deepEqual(warnings, []);
});

test("an abort later unsubscribes; the loop throws at once", async (t) => {
  const { hub, peer } = await connected(t);
  const controller = new AbortController();
  const subscription = await subscribed(hub, peer, 0, { signal: controller.signal });
  peer.event("a", 1);
  await roundTrip(hub, peer);
  controller.abort("no more");
  const { messages, error } = await drain(subscription);
  assert.deepEqual(messages, []);
  assert.ok(error instanceof CancelledError);
  assert.equal(error.cause, "no more");
  await peer.unsubscribed("a");
  await subscription.unsubscribe();
});

test("an abort after the end changes nothing", async (t) => {
  const { hub, peer } = await connected(t);
  const controller = new AbortController();
  const subscription = await subscribed(hub, peer, 0, { signal: controller.signal });
  const leaving = subscription.unsubscribe();
  controller.abort();
  await peer.unsubscribed("a");
  await leaving;
  assert.deepEqual(await drain(subscription), { messages: [], error: undefined });
  await roundTrip(hub, peer);
});

test("a refusal is an RpcError, and leaves nothing behind", async (t) => {
  const { hub, peer } = await connected(t);
  const subscribing = hub.subscribe("system.metrics");
  peer.error((await peer.next()).id, 6002, { type: "FORBIDDEN", maybe_executed: false });
  const error = await rejection(subscribing);
  assert.ok(error instanceof RpcError);
  assert.equal(error.errorName, "FORBIDDEN");
  await pause(20);
  await roundTrip(hub, peer);
});

for (const result of [null, "text", {}, { epoch: "e1" }, { epoch: 1, offset: 0, recovered: false }, { epoch: "e1", offset: 1 }]) {
  test(`the reply ${JSON.stringify(result)} is a ProtocolError, and unsubscribes`, async (t) => {
    const { hub, peer } = await connected(t);
    const subscribing = hub.subscribe("a");
    peer.result((await peer.next()).id, result);
    assert.ok((await rejection(subscribing)) instanceof ProtocolError);
    await peer.unsubscribed("a");
  });
}

test("what makes no sense is a TypeError, and nothing is sent", async (t) => {
  const { hub, peer } = await connected(t);
  const attempts = [
    hub.subscribe(1 as unknown as string),
    hub.subscribe("a\uD800"),
    hub.subscribe("a", { recover: { epoch: "e1", offset: Number.NaN } }),
    ...[0, -1, 1.5, Number.NaN].map((maxQueued) => hub.subscribe("a", { maxQueued })),
  ];
  for (const attempt of attempts) {
    assert.ok((await rejection(attempt)) instanceof TypeError);
  }
  await roundTrip(hub, peer);
});

test("whoever never reads causes no unhandled rejection", async (t) => {
  const { hub, peer } = await connected(t);
  await subscribed(hub, peer);
  peer.cut();
  await hub.closed;
  await pause(20);
});
