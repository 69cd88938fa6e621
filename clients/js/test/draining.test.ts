/**
 * What a hub that is stopping refuses waits for the next one, as if there were no connection.
 */
import assert from "node:assert/strict";
import { test, type TestContext } from "node:test";
import { DisconnectedError, RpcError, TimeoutError, type ConnectOptions } from "../src/index.js";
import { Watched } from "./support/resilient.js";
import { listen, rejection, roundTrip, type Peer, type Received } from "./support/scripted.js";
import { stoppedClock } from "./support/time.js";

const REFUSAL = { type: "WORKER_UNAVAILABLE", retryable: true, retry_after_ms: 1_000, draining: true };

/** Takes the next message as a call of `method`, and refuses it. */
async function refuse(peer: Peer, method = "work", maybeExecuted = false): Promise<Received> {
  const request = await peer.next();
  assert.equal(request.method, method);
  peer.error(request.id, 1001, { ...REFUSAL, maybe_executed: maybeExecuted });
  return request;
}

async function start(
  t: TestContext,
  options: ConnectOptions = {},
): Promise<{ hub: Watched["hub"]; peer: Peer; watched: Watched; accept: () => Promise<Peer> }> {
  const { url, accept } = await listen(t);
  const [watched, peer] = await Promise.all([Watched.connect(url, { session: false, ...options }), accept()]);
  t.after(() => watched.hub.close());
  return { hub: watched.hub, peer, watched, accept };
}

test("a call waits for the next connection, and spends no attempt", async (t) => {
  const { hub, peer, accept } = await start(t);
  const call = hub.call("work", { n: 1 });
  let connection = peer;
  for (let n = 0; n < 4; n += 1) {
    await refuse(connection);
    connection.close(1012, "the hub is stopping");
    connection = await accept();
  }
  const { id, params } = await connection.next();
  assert.deepEqual(params, { n: 1 });
  connection.result(id, "done");
  assert.equal(await call, "done");
});

test("it is not asked again on the same connection, and what the hub still answers goes on", async (t) => {
  const { hub, peer, accept } = await start(t);
  const call = hub.call("work");
  await refuse(peer);
  const other = hub.call("rpc.ping");
  peer.result((await peer.next()).id, "pong");
  assert.equal(await other, "pong");
  peer.cut();
  const second = await accept();
  second.result((await second.next()).id, 1);
  assert.equal(await call, 1);
});

test("its deadline goes on: the next hub is told what is left", async (t) => {
  const pass = stoppedClock(t);
  const { hub, peer, watched, accept } = await start(t);
  const call = hub.call("work", {}, { timeoutMs: 20_000 });
  await refuse(peer);
  await roundTrip(hub, peer);
  peer.cut();
  await watched.until("lost");
  pass(30);
  const second = await accept();
  const { id, metadata } = await second.next();
  assert.equal(metadata?.timeout_ms, 19_970);
  second.result(id, 1);
  await call;
});

test("it does not wait longer than its deadline", async (t) => {
  const pass = stoppedClock(t);
  const { hub, peer } = await start(t);
  const call = rejection(hub.call("work", {}, { timeoutMs: 100 }));
  await refuse(peer);
  await roundTrip(hub, peer);
  pass(100);
  const error = await call;
  assert.ok(error instanceof TimeoutError);
  assert.equal(error.maybeExecuted, false);
});

test("a stream waits, too", async (t) => {
  const { hub, peer, accept } = await start(t);
  const stream = hub.stream("work");
  await refuse(peer);
  peer.cut();
  const second = await accept();
  const { id } = await second.next();
  second.chunk(id, 0, "a");
  second.finalChunk(id, 1);
  second.result(id, "summary");
  const data: unknown[] = [];
  for await (const chunk of stream) {
    data.push(chunk.data);
  }
  assert.deepEqual([data, await stream.result], [["a"], "summary"]);
});

test("whoever leaves meanwhile is not asked for", async (t) => {
  const { hub, peer, accept } = await start(t);
  const controller = new AbortController();
  const call = rejection(hub.call("work", {}, { signal: controller.signal }));
  await refuse(peer);
  const ping = hub.call("rpc.ping");
  peer.result((await peer.next()).id, 1);
  await ping;
  controller.abort();
  assert.equal(((await call) as RpcError).maybeExecuted, false);
  peer.cut();
  const second = await accept();
  const last = hub.call("last");
  const { id, method } = await second.next();
  assert.equal(method, "last");
  second.result(id, 1);
  await last;
});

const fed = function* (): Iterable<number> {
  yield 1;
};

for (const [what, options, connection, maybeExecuted] of [
  ["with retry: false", { retry: false }, {}, false],
  ["where nothing is retried", {}, { retry: false }, false],
  ["that is fed", { input: fed() }, {}, false],
  ["that may have run", {}, {}, true],
] as const) {
  test(`a call ${what} is refused at once`, async (t) => {
    const { hub, peer } = await start(t, connection);
    const call = rejection(hub.call("work", {}, options));
    await refuse(peer, "work", maybeExecuted);
    const error = await call;
    assert.ok(error instanceof RpcError);
    assert.equal(error.maybeExecuted, maybeExecuted);
  });
}

test("where there is no next connection it is tried again on this one", async (t) => {
  const { hub, peer } = await start(t, { reconnect: false });
  const call = hub.call("work");
  await refuse(peer);
  peer.result((await peer.next()).id, 1);
  assert.equal(await call, 1);
});

test("what waits ends when the client is closed", async (t) => {
  const { hub, peer } = await start(t);
  const call = rejection(hub.call("work"));
  await refuse(peer);
  const ping = hub.call("rpc.ping");
  peer.result((await peer.next()).id, 1);
  await ping;
  await hub.close();
  const error = await call;
  assert.ok(error instanceof DisconnectedError);
  assert.equal(error.maybeExecuted, false);
});

/** A hub with a session that reads one call, and says that it reads no other (or does not); then it is gone. */
async function deaf(t: TestContext, isLast: boolean): Promise<{ read: Promise<unknown>; unread: Promise<unknown>; next: Peer }> {
  const { url, accept } = await listen(t);
  const opened = { resumed: false, received: 0, ttl_ms: 60_000 };
  const open = async (): Promise<Peer> => {
    const peer = await accept();
    peer.result((await peer.next()).id, { session: "s", ...opened });
    return peer;
  };
  const [watched, peer] = await Promise.all([Watched.connect(url), open()]);
  t.after(() => watched.hub.close());
  const read = watched.hub.call("read", {}, { retry: false });
  const unread = watched.hub.call("work", {}, { retry: false });
  read.catch(() => undefined);
  unread.catch(() => undefined);
  await Promise.all([peer.next(), peer.next()]);
  peer.send({ method: "session.ack", params: { received: 1, last: isLast } });
  peer.close(1012, "the hub is stopping");
  return { read, unread, next: await open() };
}

test("what a stopping hub did not read goes to the next one", async (t) => {
  const { read, unread, next } = await deaf(t, true);
  const { id, method } = await next.next();
  assert.equal(method, "work");
  next.result(id, "done");
  assert.equal(await unread, "done");
  const error = await rejection(read);
  assert.ok(error instanceof DisconnectedError && error.maybeExecuted, "it has read that one");
});

test("what it may have read does not", async (t) => {
  const { read, unread } = await deaf(t, false);
  for (const call of [read, unread]) {
    const error = await rejection(call);
    assert.ok(error instanceof DisconnectedError && error.maybeExecuted);
  }
});

test("not now keeps the session and its calls", async (t) => {
  const { url, accept } = await listen(t);
  const open = async (answer: (peer: Peer, id: number) => void): Promise<Peer> => {
    const peer = await accept();
    answer(peer, (await peer.next()).id);
    return peer;
  };
  const [watched, first] = await Promise.all([
    Watched.connect(url),
    open((peer, id) => {
      peer.result(id, { session: "s", resumed: false, received: 0, ttl_ms: 60_000 });
    }),
  ]);
  t.after(() => watched.hub.close());
  const call = watched.hub.call("work");
  await first.next();
  first.cut();
  for (let n = 0; n < 2; n += 1) {
    await open((peer, id) => {
      peer.error(id, 1001, { retryable: true, maybe_executed: false, retry_after_ms: 80 });
    });
  }
  await open((peer, id) => {
    peer.result(id, { session: "s", resumed: true, received: 1, ttl_ms: 60_000 });
    peer.send({ seq: 1, id: 1, result: "done" });
  });
  assert.equal(await call, "done");
  assert.deepEqual(watched.story, ["try 1", "try 2", "try 3", "resumed"]);
  const pauses = watched.states.flatMap((state) => (state.state === "reconnecting" ? [state.delayMs] : []));
  assert.ok(pauses.slice(1).every((delayMs) => delayMs >= 80), "not before the hub wants it");
});

test("a stream that executors cannot take yet is put to them again, until they can", async (t) => {
  const { hub, peer } = await start(t);
  const stream = hub.stream("work");
  for (let n = 0; n < 3; n += 1) {
    const { id, method } = await peer.next();
    assert.equal(method, "work");
    peer.error(id, 1001, { type: "WORKER_UNAVAILABLE", retryable: true, retry_after_ms: 20, maybe_executed: false });
  }
  const { id } = await peer.next();
  peer.chunk(id, 0, "a");
  peer.finalChunk(id, 1);
  peer.result(id, "done");
  const got: unknown[] = [];
  for await (const { data } of stream) {
    got.push(data);
  }
  assert.deepEqual([got, await stream.result], [["a"], "done"]);
});

test("a call is, too, more often than there are attempts; the hub is told what is left of its deadline", async (t) => {
  const pass = stoppedClock(t);
  const { hub, peer } = await start(t);
  const call = hub.call("work", {}, { retry: { attempts: 2 }, timeoutMs: 20_000 });
  const deadlines: number[] = [];
  for (let n = 0; n < 5; n += 1) {
    const { id, metadata } = await peer.next();
    deadlines.push(Number(metadata?.timeout_ms));
    peer.error(id, 1001, { type: "WORKER_UNAVAILABLE", retryable: true, retry_after_ms: 20, maybe_executed: false });
    await roundTrip(hub, peer);
    pass(20);
  }
  peer.result((await peer.next()).id, "done");
  assert.equal(await call, "done");
  assert.deepEqual(deadlines, [20_000, 19_980, 19_960, 19_940, 19_920]);
});

test("it waits as long as its deadline allows, and says for what", async (t) => {
  const pass = stoppedClock(t);
  const { hub, peer } = await start(t);
  const call = rejection(hub.call("work", {}, { timeoutMs: 200 }));
  peer.error((await peer.next()).id, 1001, { retryable: true, retry_after_ms: 60_000, maybe_executed: false });
  await roundTrip(hub, peer);
  pass(200);
  const error = await call;
  assert.ok(error instanceof TimeoutError);
  assert.equal(error.message, "not taken within 200 ms: error 1001");
  assert.equal(error.maybeExecuted, false);
});

for (const [what, options, data] of [
  ["may not be made again", { retry: false }, {}],
  ["is fed", { input: fed() }, {}],
  ["may have run", {}, { maybe_executed: true }],
  ["failed too often lately", { retry: { attempts: 2, baseDelayMs: 1 } }, { breaker: "open" }],
] as const) {
  test(`a call that ${what} is told`, async (t) => {
    const { hub, peer } = await start(t);
    const call = rejection(hub.call("work", {}, options));
    const refusal = { type: "WORKER_UNAVAILABLE", retryable: true, retry_after_ms: 20, maybe_executed: false };
    for (let n = 0; n < ("breaker" in data ? 2 : 1); n += 1) {
      peer.error((await peer.next()).id, 1001, { ...refusal, ...data });
    }
    assert.equal(((await call) as RpcError).code, 1001);
  });
}

test("a stream that has begun, or that may not be made again, is not", async (t) => {
  const { hub, peer } = await start(t);
  const refusal = { type: "WORKER_UNAVAILABLE", retryable: true, retry_after_ms: 20 };
  const begun = hub.stream("work");
  peer.error((await peer.next()).id, 1001, { ...refusal, maybe_executed: true });
  assert.ok((await rejection(begun.result)) instanceof RpcError);
  const once = hub.stream("work", {}, { retry: false });
  peer.error((await peer.next()).id, 1001, { ...refusal, maybe_executed: false });
  assert.ok((await rejection(once.result)) instanceof RpcError);
});
