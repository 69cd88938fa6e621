import assert from "node:assert/strict";
import { test } from "node:test";
import { CancelledError, RpcError } from "../src/index.js";
import { connected, rejection, roundTrip } from "./support/scripted.js";

test("an event is published, its position answered", async (t) => {
  const { hub, peer } = await connected(t);
  const publishing = hub.publish("jobs.42", { done: 7 });
  const { id, ...sent } = await peer.next();
  assert.deepEqual(sent, { jsonrpc: "2.0", method: "publish", params: { topic: "jobs.42", data: { done: 7 } } });
  peer.result(id, { topic: "jobs.42", epoch: "e1", offset: 18 });
  assert.deepEqual(await publishing, { topic: "jobs.42", epoch: "e1", offset: 18 });
});

test("the idempotency key is a param, the deadline metadata", async (t) => {
  const { hub, peer } = await connected(t);
  const publishing = hub.publish("a", null, { idempotencyKey: "k", timeoutMs: 60_000 });
  const { id, params, metadata } = await peer.next();
  assert.deepEqual([params, metadata], [{ topic: "a", data: null, idempotency_key: "k" }, { timeout_ms: 60_000 }]);
  peer.result(id, { topic: "a", epoch: "e1", offset: 1 });
  await publishing;
});

for (const data of [null, false, 0, "", [], {}]) {
  test(`${JSON.stringify(data)} can be published`, async (t) => {
    const { hub, peer } = await connected(t);
    const publishing = hub.publish("a", data);
    const { id, params } = await peer.next();
    assert.deepEqual(params, { topic: "a", data });
    peer.result(id, { topic: "a", epoch: "e1", offset: 1 });
    await publishing;
  });
}

for (const [data, message] of [
  [undefined, /^data is undefined/u],
  [() => 1, /^data is function/u],
  [Symbol("s"), /^data is symbol/u],
  [Number.NaN, /^params\.data is NaN/u],
  [{ items: [1n] }, /^params\.data\.items\.0 is a BigInt/u],
  ["\uD800", /^params\.data has a lone surrogate/u],
] as const) {
  test(`refused: ${String(message)}`, async (t) => {
    const { hub, peer } = await connected(t);
    const error = await rejection(hub.publish("a", data));
    assert.ok(error instanceof TypeError);
    assert.match(error.message, message);
    await roundTrip(hub, peer);
  });
}

test("a refusal is an RpcError, an abort cancels", async (t) => {
  const { hub, peer } = await connected(t);
  const refused = hub.publish("system.mine", 1);
  peer.error((await peer.next()).id, 6002, { type: "FORBIDDEN", maybe_executed: false });
  const error = await rejection(refused);
  assert.ok(error instanceof RpcError);
  assert.deepEqual([error.errorName, error.maybeExecuted], ["FORBIDDEN", false]);
  const controller = new AbortController();
  const aborted = hub.publish("a", 1, { signal: controller.signal });
  await peer.next();
  controller.abort();
  assert.ok((await rejection(aborted)) instanceof CancelledError);
});
