import assert from "node:assert/strict";
import { test } from "node:test";
import { DisconnectedError, type Hub } from "../src/index.js";
import { connected, rejection, type Peer } from "./support/scripted.js";

/** Three calls and two streams in flight, and how often each was settled. */
async function inFlight(hub: Hub, peer: Peer): Promise<{ all: Promise<unknown>[]; settled: () => number }> {
  let count = 0;
  const streams = [hub.stream("s"), hub.stream("s")];
  const calls = [hub.call("c"), hub.call("c", {}, { timeoutMs: 60_000 }), hub.call("c")];
  const loops = streams.map((stream) => stream[Symbol.asyncIterator]().next());
  for (let n = 0; n < streams.length + calls.length; n += 1) {
    await peer.next();
  }
  const outcomes: Promise<unknown>[] = [...calls, ...loops, ...streams.map((stream) => stream.result)];
  const all = outcomes.map((outcome) =>
    outcome.finally(() => {
      count += 1;
    }),
  );
  return { all, settled: () => count };
}

test("a cut settles everything in flight, once, as maybe executed", async (t) => {
  const { hub, peer, warnings } = await connected(t);
  const { all, settled } = await inFlight(hub, peer);
  peer.cut();
  for (const promise of all) {
    const error = await rejection(promise);
    assert.ok(error instanceof DisconnectedError);
    assert.deepEqual([error.kind, error.maybeExecuted, error.code], ["disconnected", true, 1006]);
  }
  assert.equal(settled(), all.length);
  assert.equal((await hub.closed).code, 1006);
  assert.deepEqual(warnings, []);
});

test("the hub's close code and reason reach closed and the errors", async (t) => {
  const { hub, peer } = await connected(t);
  const call = hub.call("c");
  await peer.next();
  peer.close(1012, "restart");
  const error = await rejection(call);
  assert.ok(error instanceof DisconnectedError);
  assert.deepEqual([error.code, error.reason, error.maybeExecuted], [1012, "restart", true]);
  assert.deepEqual(await hub.closed, { code: 1012, reason: "restart" });
});

test("close() rejects what is in flight at once and settles when the connection is closed", async (t) => {
  const { hub, peer } = await connected(t);
  const { all, settled } = await inFlight(hub, peer);
  const closing = hub.close(4001, "bye");
  for (const promise of all) {
    const error = await rejection(promise);
    assert.ok(error instanceof DisconnectedError);
    assert.deepEqual([error.code, error.reason, error.maybeExecuted], [4001, "bye", true]);
  }
  await closing;
  assert.equal(settled(), all.length);
  assert.deepEqual(await peer.closed, { code: 4001, reason: "bye" });
  assert.deepEqual(await hub.closed, { code: 4001, reason: "bye" });
});

test("close() without arguments is a normal closure, and may be repeated", async (t) => {
  const { hub, peer } = await connected(t);
  await Promise.all([hub.close(), hub.close()]);
  await hub.close();
  assert.equal((await peer.closed).code, 1000);
});

test("a close code the standard forbids is refused and closes nothing", async (t) => {
  const { hub, peer } = await connected(t);
  assert.ok((await rejection(hub.close(1006))) instanceof Error);
  const call = hub.call("still.here");
  peer.result((await peer.next()).id, true);
  assert.equal(await call, true);
});

test("replies that arrive after close() settle nothing and warn of nothing", async (t) => {
  const { hub, peer, warnings } = await connected(t);
  const call = hub.call("c");
  const { id } = await peer.next();
  peer.result(id, "too late");
  peer.text("nonsense");
  const closing = hub.close();
  assert.ok((await rejection(call)) instanceof DisconnectedError);
  await closing;
  assert.deepEqual(warnings, []);
});

test("after the end calls, streams and notifications fail as never sent", async (t) => {
  const { hub, peer } = await connected(t);
  peer.close(4500, "go away");
  await hub.closed;
  const stream = hub.stream("s");
  const notify = (): void => {
    hub.notify("n");
  };
  const errors = [await rejection(hub.call("c")), await rejection(stream.result), thrown(notify)];
  for (const error of errors) {
    assert.ok(error instanceof DisconnectedError);
    assert.deepEqual([error.maybeExecuted, error.code, error.reason], [false, 4500, "go away"]);
  }
});

test("once close() was called nothing is sent any more", async (t) => {
  const { hub, peer } = await connected(t);
  const closing = hub.close();
  const error = await rejection(hub.call("c"));
  assert.ok(error instanceof DisconnectedError);
  assert.equal(error.maybeExecuted, false);
  await closing;
  assert.equal((await peer.closed).code, 1000);
});

test("an abort after the end changes nothing", async (t) => {
  const { hub, peer } = await connected(t);
  const controller = new AbortController();
  const call = hub.call("c", {}, { signal: controller.signal });
  await peer.next();
  peer.cut();
  assert.ok((await rejection(call)) instanceof DisconnectedError);
  controller.abort();
  assert.ok((await rejection(call)) instanceof DisconnectedError);
});

test("await using closes", async (t) => {
  const { hub, peer } = await connected(t);
  {
    await using scoped = hub;
    scoped.notify("n");
  }
  assert.equal((await peer.closed).code, 1000);
});

function thrown(act: () => void): unknown {
  try {
    act();
  } catch (error) {
    return error;
  }
  throw new Error("should have thrown");
}
