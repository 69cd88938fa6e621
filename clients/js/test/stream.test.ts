import assert from "node:assert/strict";
import { test } from "node:test";
import {
  CancelledError,
  DisconnectedError,
  ProtocolError,
  RpcError,
  TimeoutError,
  UsageError,
  type ResultStream,
} from "../src/index.js";
import { drain } from "./support/chunks.js";
import { connected, rejection, roundTrip } from "./support/scripted.js";
import { pause, stoppedClock } from "./support/time.js";

test("chunks in order, then the summary", async (t) => {
  const { hub, peer, warnings } = await connected(t);
  const stream = hub.stream<string, { total: number }>("count", { n: 2 });
  const { id, ...sent } = await peer.next();
  const metadata = { window: { items: 64, bytes: 262_144 } };
  assert.deepEqual(sent, { jsonrpc: "2.0", method: "count", params: { n: 2 }, metadata });
  peer.chunk(id, 0, "a");
  peer.chunk(id, 1, "b");
  peer.finalChunk(id, 2);
  peer.result(id, { total: 2 });
  const chunks = [];
  for await (const chunk of stream) {
    chunks.push(chunk);
  }
  assert.deepEqual(chunks, [
    { type: "part", data: "a", index: 0 },
    { type: "part", data: "b", index: 1 },
  ]);
  assert.deepEqual(await stream.result, { total: 2 });
  assert.deepEqual(warnings, []);
});

test("chunks are given as they come, not at the end", async (t) => {
  const { hub, peer } = await connected(t);
  const iterator = hub.stream("count")[Symbol.asyncIterator]();
  const { id } = await peer.next();
  for (const index of [0, 1, 2]) {
    const next = iterator.next();
    peer.chunk(id, index, index * 10);
    assert.deepEqual(await next, { done: false, value: { type: "part", data: index * 10, index } });
  }
  peer.finalChunk(id, 3);
  peer.result(id, null);
  assert.deepEqual(await iterator.next(), { done: true, value: undefined });
  assert.deepEqual(await iterator.next(), { done: true, value: undefined });
});

test("two streams and a call share the connection without mixing", async (t) => {
  const { hub, peer } = await connected(t);
  const streams = [hub.stream("a"), hub.stream("b")] as const;
  const call = hub.call("c");
  peer.chunk(2, 0, "b0");
  peer.chunk(1, 0, "a0");
  peer.result(3, "c");
  peer.chunk(1, 1, "a1");
  peer.finalChunk(2, 1);
  peer.result(2, null);
  peer.finalChunk(1, 2);
  peer.result(1, null);
  assert.deepEqual((await drain(streams[0])).data, ["a0", "a1"]);
  assert.deepEqual((await drain(streams[1])).data, ["b0"]);
  assert.equal(await call, "c");
});

test("an empty stream is a stream", async (t) => {
  const { hub, peer } = await connected(t);
  const stream = hub.stream("count");
  peer.finalChunk(1, 0);
  peer.result(1, "none");
  assert.deepEqual(await drain(stream), { data: [], error: undefined });
  assert.equal(await stream.result, "none");
});

test("a method that is no stream is a UsageError, in the loop and of the result", async (t) => {
  const { hub, peer } = await connected(t);
  const stream = hub.stream("echo");
  peer.result(1, "value");
  const { error } = await drain(stream);
  assert.ok(error instanceof UsageError);
  assert.deepEqual([error.message, error.method, error.maybeExecuted], ["echo is no stream: use call()", "echo", true]);
  assert.equal(await rejection(stream.result), error);
});

test("a stream without a chunk is one all the same", async (t) => {
  const { hub, peer } = await connected(t);
  const stream = hub.stream("count");
  peer.finalChunk(1, 0);
  peer.result(1, "none");
  assert.deepEqual(await drain(stream), { data: [], error: undefined });
  assert.equal(await stream.result, "none");
});

test("a final chunk without chunk_type ends the stream all the same", async (t) => {
  const { hub, peer } = await connected(t);
  const stream = hub.stream("count");
  peer.chunk(1, 0, "a");
  peer.send({ method: "stream_chunk", params: { request_id: 1, data: null, is_final: true, index: 1 } });
  peer.result(1, null);
  assert.deepEqual(await drain(stream), { data: ["a"], error: undefined });
});

test("an error after two chunks: both are given, then the loop throws what result rejects with", async (t) => {
  const { hub, peer } = await connected(t);
  const stream = hub.stream("count");
  peer.chunk(1, 0, "a");
  peer.chunk(1, 1, "b");
  peer.error(1, 2001, { type: "WORKER_CRASHED", maybe_executed: true, chunks: 2 });
  const { data, error } = await drain(stream);
  assert.deepEqual(data, ["a", "b"]);
  assert.ok(error instanceof RpcError);
  assert.deepEqual([error.errorName, error.maybeExecuted], ["WORKER_CRASHED", true]);
  assert.equal(await rejection(stream.result), error);
});

for (const leave of ["break", "return", "throw"] as const) {
  test(`leaving the loop by ${leave} cancels the stream`, async (t) => {
    const { hub, peer, warnings } = await connected(t);
    const stream = hub.stream("count");
    peer.chunk(1, 0, "a");
    peer.chunk(1, 1, "b");
    assert.equal(await firstOnly(stream, leave), "a");
    assert.equal((await peer.next()).method, "count");
    assert.deepEqual(await peer.next(), { jsonrpc: "2.0", method: "$/cancelRequest", params: { id: 1 } });
    assert.ok((await rejection(stream.result)) instanceof CancelledError);
    peer.chunk(1, 2, "late");
    peer.error(1, -32800);
    await roundTrip(hub, peer);
    assert.deepEqual(warnings, []);
  });
}

async function firstOnly(stream: ResultStream, leave: "break" | "return" | "throw"): Promise<unknown> {
  let first: unknown;
  try {
    for await (const { data } of stream) {
      first = data;
      if (leave === "return") {
        return data;
      }
      if (leave === "throw") {
        throw new Error("enough");
      }
      break;
    }
  } catch (error) {
    assert.equal((error as Error).message, "enough");
  }
  return first;
}

test("leaving after the final chunk came cancels nothing", async (t) => {
  const { hub, peer } = await connected(t);
  const stream = hub.stream("count");
  assert.equal((await peer.next()).method, "count");
  peer.chunk(1, 0, "a");
  peer.finalChunk(1, 1);
  await roundTrip(hub, peer);
  assert.equal(await firstOnly(stream, "break"), "a");
  peer.result(1, "summary");
  assert.equal(await stream.result, "summary");
  hub.notify("after");
  assert.equal((await peer.next()).method, "after");
});

for (const [what, indices] of [
  ["a missing chunk", [0, 2]],
  ["a repeated chunk", [0, 0]],
  ["a first chunk that is not 0", [1]],
] as const) {
  test(`${what} is a gap: the chunks before it, then a ProtocolError and a cancel`, async (t) => {
    const { hub, peer } = await connected(t);
    const stream = hub.stream("count");
    assert.equal((await peer.next()).method, "count");
    for (const index of indices) {
      peer.chunk(1, index, index);
    }
    peer.chunk(1, 1, "after the gap");
    const { data, error } = await drain(stream);
    assert.deepEqual(data, indices.slice(0, -1));
    assert.ok(error instanceof ProtocolError);
    assert.match(error.message, /chunk \d came, \d was due/u);
    assert.deepEqual([error.kind, error.name, error.maybeExecuted], ["protocol", "ProtocolError", true]);
    assert.equal(await rejection(stream.result), error);
    assert.equal((await peer.next()).method, "$/cancelRequest");
  });
}

test("a final chunk that counts further than the chunks that came is a gap", async (t) => {
  const { hub, peer } = await connected(t);
  const stream = hub.stream("count");
  peer.chunk(1, 0, "a");
  peer.finalChunk(1, 2);
  peer.result(1, null);
  const { data, error } = await drain(stream);
  assert.deepEqual(data, ["a"]);
  assert.ok(error instanceof ProtocolError);
});

test("success without the final chunk is a gap: the tail may be missing", async (t) => {
  const { hub, peer } = await connected(t);
  const stream = hub.stream("count");
  peer.chunk(1, 0, "a");
  peer.result(1, null);
  const { data, error } = await drain(stream);
  assert.deepEqual(data, ["a"]);
  assert.ok(error instanceof ProtocolError);
  assert.equal(await rejection(stream.result), error);
});

test("a chunk after the final one is a gap", async (t) => {
  const { hub, peer } = await connected(t);
  const stream = hub.stream("count");
  peer.finalChunk(1, 0);
  peer.chunk(1, 0, "a");
  const { error } = await drain(stream);
  assert.ok(error instanceof ProtocolError);
  assert.match(error.message, /after the final one/u);
});

test("an abort ends the loop at once: chunks that wait are not given any more", async (t) => {
  const { hub, peer } = await connected(t);
  const controller = new AbortController();
  const stream = hub.stream("count", {}, { signal: controller.signal });
  assert.equal((await peer.next()).method, "count");
  peer.chunk(1, 0, "a");
  peer.chunk(1, 1, "b");
  await roundTrip(hub, peer);
  controller.abort();
  const { data, error } = await drain(stream);
  assert.deepEqual(data, []);
  assert.ok(error instanceof CancelledError);
  assert.equal(await rejection(stream.result), error);
  assert.deepEqual(await peer.next(), { jsonrpc: "2.0", method: "$/cancelRequest", params: { id: 1 } });
});

test("an abort wakes a loop that waits", async (t) => {
  const { hub, peer } = await connected(t);
  const controller = new AbortController();
  const drained = drain(hub.stream("count", {}, { signal: controller.signal }));
  await peer.next();
  controller.abort();
  assert.ok((await drained).error instanceof CancelledError);
});

test("a stream aborted before it began is never sent", async (t) => {
  const { hub, peer } = await connected(t);
  const stream = hub.stream("count", {}, { signal: AbortSignal.abort() });
  const { error } = await drain(stream);
  assert.ok(error instanceof CancelledError);
  assert.equal(error.maybeExecuted, false);
  hub.notify("after");
  assert.equal((await peer.next()).method, "after");
});

test("a cut gives the chunks that came, then a DisconnectedError", async (t) => {
  const { hub, peer } = await connected(t);
  const stream = hub.stream("count");
  peer.chunk(1, 0, "a");
  await roundTripAfterStream(hub, peer);
  peer.cut();
  const { data, error } = await drain(stream);
  assert.deepEqual(data, ["a"]);
  assert.ok(error instanceof DisconnectedError);
  assert.equal(error.maybeExecuted, true);
  assert.equal(await rejection(stream.result), error);
});

async function roundTripAfterStream(...ends: Parameters<typeof roundTrip>): Promise<void> {
  assert.equal((await ends[1].next()).method, "count");
  await roundTrip(...ends);
}

test("timeoutMs limits silence: chunks put it off, then the loop throws", async (t) => {
  const pass = stoppedClock(t);
  const { hub, peer } = await connected(t);
  const drained = drain(hub.stream("count", {}, { timeoutMs: 40 }));
  await peer.next();
  pass(2_039);
  peer.chunk(1, 0, "a");
  await roundTrip(hub, peer);
  pass(2_039);
  // It is not cancelled yet.
  await roundTrip(hub, peer);
  pass(1);
  const { data, error } = await drained;
  assert.deepEqual(data, ["a"]);
  assert.ok(error instanceof TimeoutError);
  assert.equal((await peer.next()).method, "$/cancelRequest");
});

test("nobody has to look at result or loop", async (t) => {
  const { hub, peer } = await connected(t);
  const unhandled: unknown[] = [];
  const listener = (reason: unknown): void => {
    unhandled.push(reason);
  };
  process.on("unhandledRejection", listener);
  t.after(() => process.off("unhandledRejection", listener));
  hub.stream("count");
  hub.stream("count");
  await peer.next();
  peer.error(1, 3003);
  await roundTripAfterStream(hub, peer);
  await hub.close();
  await pause(20);
  assert.deepEqual(unhandled, []);
});

test("parameters without a JSON form throw at the call", async (t) => {
  const { hub } = await connected(t);
  assert.throws(() => hub.stream("count", { n: Number.NaN }), /TypeError: params\.n is NaN/u);
});

test("progress reaches a stream, too", async (t) => {
  const { hub, peer } = await connected(t);
  const seen: unknown[] = [];
  const stream = hub.stream("count", {}, { onProgress: (value) => seen.push(value) });
  peer.progress(1, "half");
  peer.finalChunk(1, 0);
  peer.result(1, null);
  await stream.result;
  assert.deepEqual(seen, ["half"]);
});

test("reads that do not wait for each other get different chunks", async (t) => {
  const { hub, peer } = await connected(t);
  const iterator = hub.stream("count")[Symbol.asyncIterator]();
  const reads = [iterator.next(), iterator.next(), iterator.next()];
  peer.chunk(1, 0, "a");
  peer.chunk(1, 1, "b");
  peer.finalChunk(1, 2);
  peer.result(1, null);
  const results = await Promise.all(reads);
  assert.deepEqual(
    results.map((result) => (result.done === true ? "done" : result.value.data)),
    ["a", "b", "done"],
  );
});
