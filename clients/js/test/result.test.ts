/**
 * The result of a stream, with and without a loop over its chunks.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { UsageError, type Hub } from "../src/index.js";
import { drain } from "./support/chunks.js";
import { connected, type Peer } from "./support/scripted.js";
import { within } from "./support/time.js";

/** Like `roundTrip`, past what the client sent before. */
async function roundTripPast(hub: Hub, peer: Peer, expected?: string): Promise<void> {
  const call = hub.call("round.trip");
  const methods: string[] = [];
  for (let last = await peer.next(); ; last = await peer.next()) {
    methods.push(last.method);
    if (last.method === "round.trip") {
      peer.result(last.id, null);
      break;
    }
  }
  await call;
  if (expected !== undefined) {
    while (!methods.includes(expected)) {
      methods.push((await peer.next()).method);
    }
  }
}

test("a result that alone is waited for comes, however many chunks are before it", async (t) => {
  const { hub, peer } = await connected(t);
  const { result } = hub.stream("count", undefined, { window: { items: 4 } });
  const { id } = await peer.next();
  let granted = 0;
  for (let index = 0; index < 10; index += 1) {
    while (index >= granted + 4) {
      const { method, params } = await peer.next();
      assert.equal(method, "stream.credit");
      granted = params["consumed"] as number;
    }
    peer.chunk(id, index, index);
  }
  peer.finalChunk(id, 10);
  peer.result(id, "all");
  assert.equal(await within("the result", result), "all");
});

test("a loop that begins after its chunks were dropped fails; one that begins before gets them all", async (t) => {
  const { hub, peer } = await connected(t);
  const late = hub.stream("count", undefined, { window: { items: 2 } });
  const wanted = late.result;
  peer.chunk(1, 0, 0);
  peer.chunk(1, 1, 1);
  await roundTripPast(hub, peer, "stream.credit");
  const { error } = await drain(late);
  assert.ok(error instanceof UsageError);
  assert.match(error.message, /chunks of count were dropped: only its result was asked for/u);
  peer.finalChunk(1, 2);
  peer.result(1, "r");
  assert.equal(await wanted, "r");

  const both = hub.stream("count", undefined, { window: { items: 4 } });
  const result = both.result;
  peer.chunk(3, 0, "a");
  await roundTripPast(hub, peer);
  const reading = drain(both);
  peer.chunk(3, 1, "b");
  peer.finalChunk(3, 2);
  peer.result(3, "s");
  assert.deepEqual(await reading, { data: ["a", "b"], error: undefined });
  assert.equal(await result, "s");
});
