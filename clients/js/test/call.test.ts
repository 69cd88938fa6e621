import assert from "node:assert/strict";
import { getEventListeners } from "node:events";
import { test } from "node:test";
import { CancelledError, RpcError, TimeoutError, UsageError } from "../src/index.js";
import { connected, rejection, roundTrip } from "./support/scripted.js";
import { stoppedClock } from "./support/time.js";

test("ids count from 1, metadata is left out when empty", async (t) => {
  const { hub, peer } = await connected(t);
  const calls = [hub.call("first", { a: 1 }), hub.call("second", [1, "two"], {}), hub.call("third")];
  assert.deepEqual(await peer.next(), { jsonrpc: "2.0", id: 1, method: "first", params: { a: 1 } });
  assert.deepEqual(await peer.next(), { jsonrpc: "2.0", id: 2, method: "second", params: [1, "two"] });
  assert.deepEqual(await peer.next(), { jsonrpc: "2.0", id: 3, method: "third" });
  peer.result(1, null);
  peer.result(2, null);
  peer.result(3, null);
  await Promise.all(calls);
});

test("replies in any order find their call", async (t) => {
  const { hub, peer } = await connected(t);
  const calls = [hub.call<string>("a"), hub.call<string>("b"), hub.call<null>("c")];
  for (let n = 0; n < calls.length; n += 1) {
    await peer.next();
  }
  peer.result(3, null);
  peer.result(1, "one");
  peer.result(2, "two");
  assert.deepEqual(await Promise.all(calls), ["one", "two", null]);
});

test("options become metadata, and win over the caller's own", async (t) => {
  const { hub, peer } = await connected(t);
  const call = hub.call("m", undefined, {
    timeoutMs: 1500.2,
    priority: "high",
    idempotencyKey: "k",
    onProgress: () => {},
    metadata: { traceparent: "00-1", priority: "low" },
  });
  const { id, metadata } = await peer.next();
  assert.deepEqual(metadata, {
    traceparent: "00-1",
    priority: "high",
    timeout_ms: 1501,
    idempotency_key: "k",
    progress_token: id,
  });
  peer.result(id, 0);
  await call;
});

test("progress reaches its call only", async (t) => {
  const { hub, peer, warnings } = await connected(t);
  const seen: unknown[] = [];
  const call = hub.call("slow", {}, { onProgress: (value) => seen.push(value) });
  const other = hub.call("slow", {}, { onProgress: () => seen.push("wrong") });
  const { metadata } = await peer.next();
  peer.progress(metadata?.progress_token, 0.5);
  peer.progress(metadata?.progress_token, { done: 9, of: 10 });
  peer.result(1, "done");
  peer.result(2, "done");
  assert.deepEqual(await Promise.all([call, other]), ["done", "done"]);
  assert.deepEqual(seen, [0.5, { done: 9, of: 10 }]);
  assert.deepEqual(warnings, []);
});

test("an onProgress that throws cancels its call and rejects with what it threw", async (t) => {
  const { hub, peer } = await connected(t);
  const bug = new Error("bug in the caller");
  const call = hub.call("slow", {}, {
    onProgress: () => {
      throw bug;
    },
  });
  await peer.next();
  peer.progress(1, 0.5);
  assert.equal(await rejection(call), bug);
  assert.deepEqual(await peer.next(), { jsonrpc: "2.0", method: "$/cancelRequest", params: { id: 1 } });
});

test("an abort before the call sends nothing", async (t) => {
  const { hub, peer } = await connected(t);
  const reason = new Error("never mind");
  const error = await rejection(hub.call("m", {}, { signal: AbortSignal.abort(reason) }));
  assert.ok(error instanceof CancelledError);
  assert.deepEqual([error.code, error.kind, error.maybeExecuted, error.cause], [-32800, "cancelled", false, reason]);
  hub.notify("after");
  assert.equal((await peer.next()).method, "after");
});

test("an abort after the call cancels it, rejects at once, and the late reply is dropped in silence", async (t) => {
  const { hub, peer, warnings } = await connected(t);
  const controller = new AbortController();
  const progress: unknown[] = [];
  const call = hub.call("m", {}, { signal: controller.signal, onProgress: (value) => progress.push(value) });
  const { id } = await peer.next();
  controller.abort();
  const error = await rejection(call);
  assert.ok(error instanceof CancelledError);
  assert.equal(error.maybeExecuted, true);
  assert.equal(error.cause, controller.signal.reason);
  assert.deepEqual(await peer.next(), { jsonrpc: "2.0", method: "$/cancelRequest", params: { id } });
  peer.progress(id, 1);
  peer.chunk(id, 0, "late");
  peer.error(id, -32800);
  await roundTrip(hub, peer);
  assert.deepEqual(warnings, []);
  assert.deepEqual(progress, []);
  peer.error(id, -32800);
  await roundTrip(hub, peer);
  assert.match(warnings.join(), /a reply for 1, which is not in flight/u);
});

test("after the reply a signal is let go, and an abort does nothing", async (t) => {
  const { hub, peer } = await connected(t);
  const controller = new AbortController();
  const call = hub.call("m", {}, { signal: controller.signal });
  assert.equal(getEventListeners(controller.signal, "abort").length, 1);
  peer.result((await peer.next()).id, "here");
  assert.equal(await call, "here");
  assert.equal(getEventListeners(controller.signal, "abort").length, 0);
  controller.abort();
  hub.notify("after");
  assert.equal((await peer.next()).method, "after");
});

test("a silent hub costs timeoutMs and two seconds, then the call is cancelled", async (t) => {
  const pass = stoppedClock(t);
  const { hub, peer } = await connected(t);
  const call = hub.call("m", {}, { timeoutMs: 40 });
  await peer.next();
  pass(2_039);
  // It is not cancelled yet.
  await roundTrip(hub, peer);
  pass(1);
  const error = await rejection(call);
  assert.ok(error instanceof TimeoutError);
  assert.deepEqual(
    [error.code, error.kind, error.errorName, error.retryable, error.recovery, error.maybeExecuted],
    [1002, "timeout", "COMMUNICATION_TIMEOUT", true, "retry", true],
  );
  assert.match(error.message, /^no answer within 2040 ms/u);
  assert.equal((await peer.next()).method, "$/cancelRequest");
});

test("the hub's own answer to a passed deadline comes first", async (t) => {
  const { hub, peer } = await connected(t);
  const call = hub.call("m", {}, { timeoutMs: 60_000 });
  peer.error((await peer.next()).id, 1002, { type: "COMMUNICATION_TIMEOUT", recovery: "retry", retryable: true });
  const error = await rejection(call);
  assert.ok(error instanceof TimeoutError);
  assert.match(error.message, /^error 1002/u);
});

test("a timeout longer than any timer does not fire at once", async (t) => {
  const { hub, peer } = await connected(t);
  const call = hub.call("m", {}, { timeoutMs: 2 ** 40 });
  const { id, metadata } = await peer.next();
  assert.equal(metadata?.timeout_ms, 2 ** 40);
  await roundTrip(hub, peer);
  peer.result(id, "in time");
  assert.equal(await call, "in time");
});

for (const timeoutMs of [0, -5, Number.NaN, Number.POSITIVE_INFINITY]) {
  test(`timeoutMs ${timeoutMs} is a TypeError`, async (t) => {
    const { hub } = await connected(t);
    const error = await rejection(hub.call("m", {}, { timeoutMs }));
    assert.ok(error instanceof TypeError);
    assert.match(error.message, /timeoutMs has to be a positive number/u);
  });
}

test("method and params that are no JSON-RPC are refused here", async (t) => {
  const { hub } = await connected(t);
  const untyped = hub as unknown as { call(...args: unknown[]): Promise<unknown> };
  assert.match(String(await rejection(untyped.call())), /TypeError: method has to be a string/u);
  assert.match(String(await rejection(untyped.call("m", "text"))), /TypeError: params has to be/u);
  assert.match(String(await rejection(untyped.call("m", null))), /TypeError: params has to be/u);
});

test("a notification has no id", async (t) => {
  const { hub, peer } = await connected(t);
  hub.notify("log", { line: "hi" });
  assert.deepEqual(await peer.next(), { jsonrpc: "2.0", method: "log", params: { line: "hi" } });
  assert.throws(() => {
    hub.notify("log", { n: Number.NaN });
  }, /TypeError: params\.n is NaN/u);
});

test("requests of the hub are refused: this client has no methods", async (t) => {
  const { hub, peer } = await connected(t);
  peer.send({ id: "h:1", method: "ask.me", params: {} });
  const { id, error } = await peer.next();
  assert.equal(id, "h:1");
  assert.deepEqual(error, { code: -32601, message: "no method ask.me" });
  await roundTrip(hub, peer);
});

test("a call of a streaming method is a UsageError, and is cancelled at the hub", async (t) => {
  const { hub, peer } = await connected(t);
  for (const isEmpty of [false, true]) {
    const call = hub.call("count");
    const { id } = await peer.next();
    if (isEmpty) {
      peer.finalChunk(id, 0);
    } else {
      peer.chunk(id, 0, "a");
    }
    const error = await rejection(call);
    assert.ok(error instanceof UsageError);
    assert.deepEqual([error.message, error.maybeExecuted], ["count is a stream: use stream()", true]);
    assert.deepEqual((await peer.next()).params, { id });
    peer.result(id, { chunks: 2 });
  }
  await roundTrip(hub, peer);
});

test("errors of the hub are instances of RpcError with the hub's message", async (t) => {
  const { hub, peer } = await connected(t);
  const call = hub.call("nope");
  peer.error((await peer.next()).id, -32601);
  const error = await rejection(call);
  assert.ok(error instanceof RpcError);
  assert.equal(error.message, "error -32601");
});
