/**
 * Several subscriptions of one connection: the hub sends each event once, here it reaches all it is for.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { RpcError, type Hub, type Subscription } from "../src/index.js";
import { drain, take } from "./support/messages.js";
import { connected, rejection, roundTrip, type Peer } from "./support/scripted.js";

async function both(hub: Hub, peer: Peer, ...starts: [topic: string, offset?: number][]): Promise<Subscription[]> {
  const subscriptions: Subscription[] = [];
  for (const [topic, offset] of starts) {
    const [subscription] = await Promise.all([hub.subscribe(topic), peer.subscribed(offset)]);
    subscriptions.push(subscription);
  }
  return subscriptions;
}

/** What each has, once all of them were unsubscribed by the end of the connection. */
async function contents(hub: Hub, peer: Peer, subscriptions: readonly Subscription[]): Promise<string[][]> {
  await roundTrip(hub, peer);
  peer.cut();
  const drained = await Promise.all(subscriptions.map((subscription) => drain(subscription)));
  return drained.map(({ messages }) => messages);
}

test("an event reaches every subscription that matches, once", async (t) => {
  const { hub, peer, warnings } = await connected(t);
  const subscriptions = await both(hub, peer, ["a.b", 0], ["a.*"], ["a.>"], [">"], ["*.c"], ["a.b.c", 0], ["system.x", 0]);
  peer.event("a.b", 1);
  peer.event("a.c", 1);
  peer.event("a.b.c", 1);
  peer.event("system.x", 1);
  peer.gap("a.b", 2, 3);
  assert.deepEqual(await contents(hub, peer, subscriptions), [
    ["a.b:1", "a.b:2-3 slow_consumer"],
    ["a.b:1", "a.c:1", "a.b:2-3 slow_consumer"],
    ["a.b:1", "a.c:1", "a.b.c:1", "a.b:2-3 slow_consumer"],
    ["a.b:1", "a.c:1", "a.b.c:1", "a.b:2-3 slow_consumer"],
    ["a.c:1"],
    ["a.b.c:1"],
    ["system.x:1"],
  ]);
  assert.deepEqual(warnings, []);
});

test("patterns have no position", async (t) => {
  const { hub, peer } = await connected(t);
  const [pattern] = await both(hub, peer, ["a.*"]);
  assert.ok(pattern);
  assert.deepEqual([pattern.position, pattern.recovered], [undefined, false]);
  peer.event("a.b", 7);
  assert.deepEqual(await take(pattern, 1), ["a.b:7"]);
  assert.equal(pattern.position, undefined);
});

test("each subscription to a topic asks the hub, only the last one to leave tells it", async (t) => {
  const { hub, peer } = await connected(t);
  const [first, second, pattern] = await both(hub, peer, ["a", 0], ["a", 0], ["*"]);
  await first?.unsubscribe();
  await first?.unsubscribe();
  peer.event("a", 1);
  assert.ok(second && pattern);
  assert.deepEqual(await take(second, 1), ["a:1"]);
  await roundTrip(hub, peer);
  await Promise.all([second.unsubscribe(), peer.unsubscribed("a")]);
  peer.event("a", 2);
  assert.deepEqual(await take(pattern, 2), ["a:1", "a:2"]);
  await Promise.all([pattern.unsubscribe(), peer.unsubscribed("*")]);
});

test("leaving while another subscription is being made does not take the topic away from it", async (t) => {
  const { hub, peer } = await connected(t);
  const [first] = await both(hub, peer, ["a", 0]);
  const subscribing = hub.subscribe("a");
  await first?.unsubscribe();
  await peer.subscribed(0);
  const second = await subscribing;
  peer.event("a", 1);
  assert.deepEqual(await take(second, 1), ["a:1"]);
  await roundTrip(hub, peer);
});

test("if that other one is refused, the topic is left", async (t) => {
  const { hub, peer } = await connected(t);
  const [first] = await both(hub, peer, ["a", 0]);
  const subscribing = hub.subscribe("a", { recover: { epoch: "e1", offset: 0 } });
  await first?.unsubscribe();
  peer.error((await peer.next()).id, 2003, { maybe_executed: false });
  assert.ok((await rejection(subscribing)) instanceof RpcError);
  await peer.unsubscribed("a");
});

test("subscribing again while unsubscribing: the reply to the latter takes nothing away", async (t) => {
  const { hub, peer, warnings } = await connected(t);
  const [first] = await both(hub, peer, ["a", 0]);
  const leaving = first?.unsubscribe();
  const subscribing = hub.subscribe("a");
  await peer.unsubscribed("a");
  await leaving;
  await peer.subscribed(4);
  const second = await subscribing;
  peer.event("a", 5);
  assert.deepEqual(await take(second, 1), ["a:5"]);
  const leavingAgain = second.unsubscribe();
  peer.event("a", 6);
  await peer.unsubscribed("a");
  await leavingAgain;
  assert.deepEqual(warnings, []);
  peer.event("a", 7);
  await roundTrip(hub, peer);
  assert.deepEqual(warnings, ["an event of a, which nobody reads"]);
});

test("of two replies to unsubscribe, the second one takes nothing away either", async (t) => {
  const { hub, peer } = await connected(t);
  const [first] = await both(hub, peer, ["a", 0]);
  const controller = new AbortController();
  const leaving = first?.unsubscribe();
  const aborted = rejection(hub.subscribe("a", { signal: controller.signal }));
  await peer.unsubscribed("a");
  assert.equal((await peer.next()).method, "subscribe");
  controller.abort();
  await Promise.all([leaving, aborted]);
  const subscribing = hub.subscribe("a");
  assert.equal((await peer.next()).method, "$/cancelRequest");
  await peer.unsubscribed("a");
  await peer.subscribed(0);
  const second = await subscribing;
  peer.event("a", 1);
  assert.deepEqual(await take(second, 1), ["a:1"]);
});

test("a topic that was left and is refused then is not left again", async (t) => {
  const { hub, peer } = await connected(t);
  const [first] = await both(hub, peer, ["a", 0]);
  const leaving = first?.unsubscribe();
  const subscribing = hub.subscribe("a");
  await peer.unsubscribed("a");
  await leaving;
  peer.error((await peer.next()).id, 2003, { maybe_executed: false });
  assert.ok((await rejection(subscribing)) instanceof RpcError);
  await roundTrip(hub, peer);
});

test("a replay is for the one who asked, others get nothing twice", async (t) => {
  const { hub, peer } = await connected(t);
  const subscriptions = await both(hub, peer, ["a", 6], ["*"]);
  peer.event("a", 7);
  peer.event("a", 8);
  const recovering = hub.subscribe("a", { recover: { epoch: "e1", offset: 5 } });
  await peer.subscribed(5, true);
  // Events 9 and 10 were waiting at the hub when the replay was queued behind them.
  for (const offset of [9, 10, 6, 7, 8, 9, 10, 11]) {
    peer.event("a", offset);
  }
  subscriptions.push(await recovering);
  const live = ["a:7", "a:8", "a:9", "a:10", "a:11"];
  assert.deepEqual(await contents(hub, peer, subscriptions), [live, live, ["a:6", ...live]]);
});

test("a reply overtakes events: those before its offset are for older subscriptions only", async (t) => {
  const { hub, peer } = await connected(t);
  const subscriptions = await both(hub, peer, ["a", 0], ["a", 2]);
  for (const offset of [1, 2, 3]) {
    peer.event("a", offset);
  }
  assert.deepEqual(await contents(hub, peer, subscriptions), [["a:1", "a:2", "a:3"], ["a:3"]]);
});

test("a gap that answers one subscription's recover is not for the others", async (t) => {
  const { hub, peer } = await connected(t);
  const subscriptions = await both(hub, peer, ["a", 8], ["*"]);
  const recovering = hub.subscribe("a", { recover: { epoch: "e1", offset: 3 } });
  await peer.subscribed(9);
  peer.gap("a", 4, 9, { reason: "history" });
  peer.event("a", 9);
  peer.event("a", 10);
  subscriptions.push(await recovering);
  const live = ["a:9", "a:10"];
  assert.deepEqual(await contents(hub, peer, subscriptions), [live, live, ["a:4-9 history", "a:10"]]);
});

test("a slow reader loses only its own", async (t) => {
  const { hub, peer } = await connected(t);
  const [slow] = await Promise.all([hub.subscribe("a", { maxQueued: 1 }), peer.subscribed(0)]);
  const [quick] = await both(hub, peer, ["a", 0]);
  assert.ok(quick);
  for (const offset of [1, 2, 3]) {
    peer.event("a", offset);
  }
  assert.deepEqual(await contents(hub, peer, [slow, quick]), [
    ["a:1-2 client_slow", "a:3"],
    ["a:1", "a:2", "a:3"],
  ]);
});

test("an event nobody subscribed to warns", async (t) => {
  const { hub, peer, warnings } = await connected(t);
  await both(hub, peer, ["*"]);
  peer.event("system", 1);
  peer.event("a.b", 1);
  await roundTrip(hub, peer);
  assert.deepEqual(warnings, [
    "an event of system, which nobody reads",
    "an event of a.b, which nobody reads",
  ]);
});
