/**
 * Patterns across cuts: what the hub is asked to recover, and what becomes of its answer.
 */
import assert from "node:assert/strict";
import { test, type TestContext } from "node:test";
import type { Hub, Subscription } from "../src/index.js";
import { connect } from "../src/index.js";
import { take } from "./support/messages.js";
import { SOON } from "./support/resilient.js";
import { listen, type Peer } from "./support/scripted.js";

const AS_OF = { epoch: "run", offset: 7 };
const ANSWER = { topic: "a.*", epoch: null, offset: 0, recovered: false, as_of: AS_OF };

interface Played {
  readonly hub: Hub;
  readonly peer: Peer;
  readonly accept: () => Promise<Peer>;
  readonly first: Subscription;
  readonly second: Subscription;
}

/** Two readers of a pattern, which have had an event of `a.x`. */
async function read(t: TestContext): Promise<Played> {
  const { url, accept } = await listen(t);
  const [hub, peer] = await Promise.all([connect(url, { session: false, reconnect: SOON }), accept()]);
  t.after(() => hub.close());
  const readers: Subscription[] = [];
  for (const answer of [ANSWER, { ...ANSWER, as_of: undefined }]) {
    const subscribing = hub.subscribe("a.*");
    peer.result((await peer.next()).id, answer);
    readers.push(await subscribing);
    peer.event("a.x", readers.length);
  }
  const [first, second] = readers;
  assert.ok(first && second);
  assert.deepEqual(await take(first, 2), ["a.x:1", "a.x:2"]);
  assert.deepEqual(await take(second, 1), ["a.x:2"]);
  return { hub, peer, accept, first, second };
}

/** The next connection, and what it asks for. */
async function cut({ peer, accept }: Played): Promise<{ peer: Peer; id: number; recover: unknown }> {
  peer.cut();
  const next = await accept();
  const { id, params } = await next.next();
  const { topic, recover } = params as { topic?: unknown; recover?: unknown };
  assert.equal(topic, "a.*");
  return { peer: next, id, recover };
}

test("it goes on after what came, with topics that are new and gaps of those the hub has no more", async (t) => {
  const played = await read(t);
  const { peer, id, recover } = await cut(played);
  assert.deepEqual(recover, { ...AS_OF, topics: { "a.x": { epoch: "e1", offset: 2 } } });
  const gap = { topic: "a.lost", epoch: "e1", from: 1, to: 3, reason: "history" };
  peer.result(id, { ...ANSWER, recovered: true, gaps: [gap] });
  peer.event("a.x", 2);
  peer.event("a.x", 3);
  peer.event("a.new", 1);
  for (const reader of [played.first, played.second]) {
    assert.deepEqual(await take(reader, 3), ["a.lost:1-3 history", "a.x:3", "a.new:1"]);
  }
  const again = await cut({ ...played, peer });
  const known = { "a.lost": { epoch: "e1", offset: 3 }, "a.x": { epoch: "e1", offset: 3 }, "a.new": { epoch: "e1", offset: 1 } };
  assert.deepEqual(again.recover, { ...AS_OF, topics: known });
});

for (const [epoch, reason] of [["run", "history"], ["another", "epoch"]] as const) {
  test(`where the hub cannot tell what was missed the gap is the pattern's: ${reason}`, async (t) => {
    const played = await read(t);
    const { peer, id } = await cut(played);
    peer.result(id, { ...ANSWER, as_of: { epoch, offset: 20 } });
    for (const reader of [played.first, played.second]) {
      assert.deepEqual(await take(reader, 1), [`/a.*:0-0 ${reason}`]);
    }
    const { recover } = await cut({ ...played, peer });
    assert.deepEqual(recover, { epoch, offset: 20, topics: { "a.x": { epoch: "e1", offset: 2 } } });
  });
}

test("a hub that tells no place is asked for none, and the gap is the pattern's", async (t) => {
  const played = await read(t);
  const first = await cut(played);
  first.peer.result(first.id, { ...ANSWER, as_of: undefined });
  assert.match((await take(played.first, 1)).join(), /disconnected$/u);
  const second = await cut({ ...played, peer: first.peer });
  assert.equal(second.recover, undefined);
});
