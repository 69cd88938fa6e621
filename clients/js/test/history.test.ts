import assert from "node:assert/strict";
import { test } from "node:test";
import { ProtocolError } from "../src/index.js";
import { connected, rejection } from "./support/scripted.js";

const EVENT = { topic: "a", data: { n: 2 }, epoch: "e1", offset: 2, published_at: 5, publisher: "ann", tenant: "acme" };
const GAP = { topic: "a", epoch: "e1", from: 1, to: 1, count: 1, reason: "history" };

test("what a topic keeps: events, what is missing before them, whether more follow", async (t) => {
  const { hub, peer } = await connected(t);
  const asking = hub.history("a", { after: { epoch: "e1", offset: 0 }, limit: 1 });
  const { id, ...sent } = await peer.next();
  assert.deepEqual(sent, {
    jsonrpc: "2.0",
    method: "history",
    params: { topic: "a", limit: 1, after: { epoch: "e1", offset: 0 } },
  });
  peer.result(id, { topic: "a", epoch: "e1", offset: 3, events: [EVENT], more: true, gap: GAP });
  const { published_at: publishedAt, ...event } = EVENT;
  assert.deepEqual(await asking, {
    topic: "a",
    epoch: "e1",
    offset: 3,
    events: [{ kind: "event", ...event, publishedAt }],
    more: true,
    gap: { kind: "gap", ...GAP },
  });
});

test("the latest, where nothing is missing", async (t) => {
  const { hub, peer } = await connected(t);
  const asking = hub.history("a");
  const { id, params } = await peer.next();
  assert.deepEqual(params, { topic: "a" });
  peer.result(id, { topic: "a", epoch: "e1", offset: 0, events: [], more: false });
  assert.equal((await asking).gap, undefined);
});

for (const result of [null, {}, { topic: "a", epoch: "e1", offset: 1, events: [{}] }, { events: [1] }]) {
  test(`${JSON.stringify(result)} is no history`, async (t) => {
    const { hub, peer } = await connected(t);
    const asking = rejection(hub.history("a"));
    peer.result((await peer.next()).id, result);
    assert.ok((await asking) instanceof ProtocolError);
  });
}
