/**
 * Sessions and reconnects, frame by frame, with a scripted hub.
 */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { test, type TestContext } from "node:test";
import { promisify } from "node:util";
import { WebSocket } from "ws";
import { connect, DisconnectedError, TimeoutError, type ConnectOptions } from "../src/index.js";
import { hubMethods, SKIP_WITHOUT_METHODS } from "./support/hub-methods.js";
import { PACKAGE } from "./support/paths.js";
import { PlainSocket } from "./support/plain-socket.js";
import { NEVER, SOON, Watched } from "./support/resilient.js";
import { listen, rejection, roundTrip, type Peer, type Received } from "./support/scripted.js";
import { PATIENCE, pause, stoppedClock, until, within } from "./support/time.js";

interface Played {
  readonly watched: Watched;
  readonly peer: Peer;
  readonly accept: () => Promise<Peer>;
  readonly url: string;
}

/** A client with a session of the scripted hub. */
async function opened(t: TestContext, options: ConnectOptions = {}, ttl = 60_000): Promise<Played> {
  const { url, accept } = await listen(t);
  const [watched, peer] = await Promise.all([Watched.connect(url, options), accepted(accept, { ttl_ms: ttl })]);
  t.after(() => watched.hub.close());
  return { watched, peer, accept, url };
}

/** The next connection, whose `session.open` is answered. */
async function accepted(accept: () => Promise<Peer>, reply: object = {}): Promise<Peer> {
  const peer = await accept();
  const { id, method } = await peer.next();
  assert.equal(method, "session.open");
  peer.result(id, { session: "s1", resumed: false, received: 0, ttl_ms: 60_000, ...reply });
  return peer;
}

/** The next message that is no acknowledgement. */
async function next(peer: Peer): Promise<Received & { readonly seq?: number }> {
  for (;;) {
    const message = await peer.next();
    if (message.method !== "session.ack") {
      return message;
    }
  }
}

test("frames are numbered, but not those of one connection", async (t) => {
  const { watched, peer } = await opened(t);
  const { hub } = watched;
  hub.notify("one");
  const calls = [hub.call("two"), hub.call("rpc.ping"), hub.subscribe("a"), hub.call("three")];
  const sent = [await next(peer), await next(peer), await next(peer), await next(peer), await next(peer)];
  assert.deepEqual(
    sent.map(({ method, seq }) => [method, seq]),
    [["one", 1], ["two", 2], ["rpc.ping", undefined], ["subscribe", undefined], ["three", 3]],
  );
  const settled = Promise.allSettled(calls);
  await hub.close();
  await settled;
  assert.equal((await next(peer)).method, "session.close");
});

test("of the hub's own methods those are not numbered of which the contract says so", { skip: SKIP_WITHOUT_METHODS }, async (t) => {
  const { watched, peer } = await opened(t);
  const { methods: names, unnumbered_methods: expected } = hubMethods();
  const calls = names.map((method) => watched.hub.call(method));
  const unnumbered: string[] = [];
  for (const name of names) {
    const { method, seq } = await next(peer);
    assert.equal(method, name);
    if (seq === undefined) {
      unnumbered.push(name);
    }
  }
  assert.deepEqual(unnumbered, expected);
  const settled = Promise.allSettled(calls);
  await watched.hub.close();
  await settled;
});

test("after a cut it resumes, sends what the hub has not, and drops what it has itself", async (t) => {
  const { watched, peer, accept } = await opened(t);
  const { hub } = watched;
  const calls = ["a", "b", "c"].map((method) => hub.call(method));
  await next(peer);
  peer.send({ id: 1, result: "first", seq: 1 });
  assert.equal(await calls[0], "first");
  peer.cut();
  const again = await accept();
  const open = await again.next();
  assert.deepEqual([open.method, open.params], ["session.open", { resume: { session: "s1", received: 1 } }]);
  again.result(open.id, { session: "s1", resumed: true, received: 2, ttl_ms: 60_000 });
  const { method, seq, id } = await next(again);
  assert.deepEqual([method, seq, id], ["c", 3, 3]);
  again.send({ id: 1, result: "again", seq: 1 });
  again.send({ id: 2, result: "second", seq: 2 });
  again.send({ id: 3, result: "third", seq: 3 });
  assert.deepEqual(await Promise.all(calls), ["first", "second", "third"]);
  assert.deepEqual(watched.story, ["try 1", "resumed"]);
  assert.deepEqual(watched.warnings, []);
});

test("what came is acknowledged a little later, or after 32 frames", async (t) => {
  const pass = stoppedClock(t);
  const { watched, peer } = await opened(t);
  peer.send({ method: "stream.credit", params: { request_id: "h:1", consumed: 0 }, seq: 1 });
  await roundTrip(watched.hub, peer);
  pass(199);
  // Nothing was acknowledged yet.
  await roundTrip(watched.hub, peer);
  pass(1);
  assert.deepEqual((await peer.next()).params, { received: 1 });
  peer.together(() => {
    for (let seq = 2; seq <= 33; seq += 1) {
      peer.send({ method: "stream.credit", params: { request_id: "h:1", consumed: 0 }, seq });
    }
  });
  assert.deepEqual((await peer.next()).params, { received: 33 });
});

for (const [what, message] of [
  ["a jump", { method: "x", seq: 2 }],
  ["an acknowledgement of what was never sent", { method: "session.ack", params: { received: 9 } }],
] as const) {
  test(`${what} ends connection and session, and the next one begins anew`, async (t) => {
    // Of all WebSockets only this one lets anybody say 1002.
    const { watched, peer, accept } = await opened(t, { retry: false, WebSocket });
    const call = rejection(watched.hub.call("c"));
    await next(peer);
    peer.send(message);
    assert.equal((await peer.closed).code, 1002);
    const error = await call;
    assert.ok(error instanceof DisconnectedError);
    assert.deepEqual([error.code, error.maybeExecuted], [1002, true]);
    const again = await accept();
    const open = await again.next();
    assert.deepEqual([open.method, open.params], ["session.open", undefined]);
    again.result(open.id, { session: "s2", resumed: false, received: 0, ttl_ms: 60_000 });
    await watched.until("anew");
  });
}

test("where nobody can say 1002 the session is ended by a message, and the connection without a code", async (t) => {
  const { watched, peer, accept } = await opened(t, { WebSocket: PlainSocket });
  peer.send({ method: "x", seq: 2 });
  assert.equal((await next(peer)).method, "session.close");
  await peer.closed;
  assert.equal((await accepted(accept, { session: "s2" })).header("authorization"), undefined);
  await watched.until("anew");
});

test("a hub that resumes from what was never sent is not believed", async (t) => {
  const { watched, peer, accept } = await opened(t, { WebSocket });
  peer.cut();
  const again = await accepted(accept, { resumed: true, received: 7 });
  assert.equal((await again.closed).code, 1002);
  await accepted(accept, { session: "s2" });
  await watched.until("anew");
});

test("4500 to 4999 are for good, other codes are not", async (t) => {
  const { watched, peer, accept } = await opened(t);
  for (const code of [1012, 4001]) {
    (code === 1012 ? peer : await accepted(accept, { resumed: true })).close(code, "again");
  }
  (await accepted(accept, { resumed: true })).close(4501, "revoked");
  assert.deepEqual(await within("the end", watched.hub.closed), { code: 4501, reason: "revoked" });
  assert.deepEqual(watched.story, ["try 1", "resumed", "try 1", "resumed", "closed 4501"]);
  assert.equal(watched.hub.connectionState, "closed");
});

test("a handshake that is closed for good is the end as well", async (t) => {
  const { watched, peer, accept } = await opened(t);
  peer.cut();
  (await accept()).close(4501, "no");
  assert.equal((await within("the end", watched.hub.closed)).code, 4501);
});

for (const answer of ["error", "nonsense"] as const) {
  test(`a server that answers session.open with an ${answer} is used without one`, async (t) => {
    const { url, accept } = await listen(t);
    const connecting = Watched.connect(url);
    const peer = await accept();
    const { id } = await peer.next();
    if (answer === "error") {
      peer.error(id, -32601);
    } else {
      peer.result(id, 7);
    }
    const { hub, warnings } = await connecting;
    t.after(() => hub.close());
    assert.match(warnings.join(), /^no session: /u);
    const call = hub.call("m");
    const sent = await peer.next();
    assert.equal("seq" in sent, false);
    peer.result(sent.id, 1);
    assert.equal(await call, 1);
  });
}

test("what waits is bounded, in messages and in length, together with what is not acknowledged", async (t) => {
  const { watched, peer } = await opened(t, { maxQueued: 3, reconnect: NEVER });
  const { hub } = watched;
  const kept = rejection(hub.call("kept"));
  peer.cut();
  await watched.until("lost");
  const waiting = [rejection(hub.call("a")), rejection(hub.call("b"))];
  for (const attempt of [hub.call("c"), hub.subscribe("a"), hub.stream("s").result]) {
    const error = await rejection(attempt);
    assert.ok(error instanceof DisconnectedError);
    assert.equal(error.maybeExecuted, false);
    assert.match(error.message, /maxQueued \(3\) is reached/u);
  }
  assert.throws(() => {
    hub.notify("n");
  }, /maxQueued/u);
  await hub.close();
  const outcomes = [await kept, ...(await Promise.all(waiting))] as DisconnectedError[];
  assert.deepEqual(outcomes.map(({ maybeExecuted }) => maybeExecuted), [true, false, false]);
});

test("maxQueuedBytes, and 0 for nothing at all", async (t) => {
  const first = await opened(t, { maxQueuedBytes: 300, reconnect: NEVER });
  first.peer.cut();
  await first.watched.until("lost");
  const text = "x".repeat(100);
  const waiting = rejection(first.watched.hub.call("a", { text }));
  assert.match(String(await rejection(first.watched.hub.call("b", { text: text + text }))), /maxQueuedBytes \(300\)/u);
  await first.watched.hub.close();
  await waiting;
  const second = await opened(t, { maxQueued: 0, reconnect: NEVER });
  second.peer.cut();
  await second.watched.until("lost");
  assert.match(String(await rejection(second.watched.hub.call("a"))), /maxQueued \(0\)/u);
});

test("deadlines and signals count while a call waits, and it is never sent", async (t) => {
  const { watched, peer, accept } = await opened(t, { reconnect: { minDelayMs: 300, maxDelayMs: 300 } });
  const { hub } = watched;
  const controller = new AbortController();
  peer.cut();
  await watched.until("lost");
  const late = rejection(hub.call("late", {}, { timeoutMs: 5 }));
  const aborted = rejection(hub.call("aborted", {}, { signal: controller.signal }));
  const sent = hub.call("sent", {}, { timeoutMs: 10_000 });
  await pause(10);
  controller.abort();
  const error = await late;
  assert.ok(error instanceof TimeoutError);
  assert.equal(error.maybeExecuted, false);
  assert.equal(((await aborted) as DisconnectedError).maybeExecuted, false);
  const again = await accepted(accept, { resumed: true });
  const { method, metadata, id, seq } = await next(again);
  assert.deepEqual([method, seq], ["sent", 1]);
  assert.ok(Number(metadata?.timeout_ms) < 10_000, "the time it waited is over");
  again.send({ id, result: 1, seq: 1 });
  await sent;
});

test("a session is given up when the hub must have given it up, without a connection", async (t) => {
  const { watched, peer } = await opened(t, { reconnect: NEVER, retry: false }, 50);
  const open = rejection(watched.hub.call("open"));
  await next(peer);
  peer.cut();
  await watched.until("lost");
  const waiting = Promise.allSettled([watched.hub.call("waiting")]);
  const error = await within("it is settled", open);
  assert.equal((error as DisconnectedError).maybeExecuted, true);
  await watched.hub.close();
  const [outcome] = await waiting;
  assert.equal(outcome?.status === "rejected" && (outcome.reason as DisconnectedError).maybeExecuted, false);
});

test("a listener that throws harms nobody, and one that left hears nothing", async (t) => {
  const { watched, peer, accept } = await opened(t);
  const bug = new Error("bug in the caller");
  const heard: string[] = [];
  const leave = watched.hub.onConnectionState(({ state }) => heard.push(state));
  leave();
  watched.hub.onConnectionState(() => {
    throw bug;
  });
  const surfaced: unknown[] = [];
  process.setUncaughtExceptionCaptureCallback((error) => surfaced.push(error));
  t.after(() => {
    process.setUncaughtExceptionCaptureCallback(null);
  });
  peer.cut();
  await accepted(accept, { resumed: true });
  await watched.until("resumed");
  await within("both errors", until(() => surfaced.length === 2));
  assert.deepEqual([heard, surfaced], [[], [bug, bug]]);
});

test("the network, or the page, comes back: it tries at once", async (t) => {
  const network = new EventTarget();
  const page = Object.assign(new EventTarget(), { visibilityState: "hidden" });
  const globals = globalThis as Record<string, unknown>;
  for (const name of ["addEventListener", "removeEventListener"] as const) {
    globals[name] = network[name].bind(network);
  }
  globals["document"] = page;
  t.after(() => {
    for (const name of ["addEventListener", "removeEventListener", "document"]) {
      delete globals[name];
    }
  });
  const { watched, peer, accept } = await opened(t, { reconnect: NEVER });
  peer.cut();
  await watched.until("lost");
  network.dispatchEvent(new Event("online"));
  const second = await accepted(accept, { resumed: true });
  await watched.until("resumed");
  second.cut();
  await watched.until("lost", 2);
  page.dispatchEvent(new Event("visibilitychange"));
  page.visibilityState = "visible";
  page.dispatchEvent(new Event("visibilitychange"));
  const third = await accepted(accept, { resumed: true });
  await watched.until("resumed", 2);
  page.dispatchEvent(new Event("visibilitychange"));
  assert.equal((await next(third)).method, "rpc.ping", "connected already: it looks whether that is true");
});

test("no timer outlives close(): the process ends by itself", async (t) => {
  const { url, accept } = await listen(t);
  const code = `
    import { connect } from ${JSON.stringify(pathToFileURL(join(PACKAGE, "dist", "index.js")).href)};
    import { WebSocket } from "ws";
    const hub = await connect(${JSON.stringify(url)}, { WebSocket });
    hub.call("never", {}, { timeoutMs: 1e6 }).catch(() => {});
    hub.call("busy").catch(() => {});
    await hub.subscribe("a").catch(() => {});
    await hub.close();`;
  const running = promisify(execFile)(process.execPath, ["--input-type=module", "-e", code], { cwd: PACKAGE, timeout: PATIENCE });
  const peer = await accepted(accept);
  await next(peer);
  peer.error((await next(peer)).id, 1001, { retryable: true, retry_after_ms: 1e6, maybe_executed: false });
  peer.error((await next(peer)).id, 6002);
  await running;
});

test("close() while loops read and handlers run: a program that left nothing unhandled ends with exit code 0", async (t) => {
  const { url, accept } = await listen(t);
  const code = `
    import { connect } from ${JSON.stringify(pathToFileURL(join(PACKAGE, "dist", "index.js")).href)};
    import { WebSocket } from "ws";
    const hub = await connect(${JSON.stringify(url)}, { WebSocket, session: false });
    hub.call("never").catch(() => {});
    hub.stream("never");
    const items = async function* () { yield 1; await new Promise(() => {}); };
    hub.call("fed", {}, { input: items() }).catch(() => {});
    await hub.register("mine", async (_params, { signal }) => {
      await new Promise((resolve) => signal.addEventListener("abort", resolve));
      await hub.call("late");
    });
    const read = async () => {
      for await (const message of await hub.subscribe("a")) {
        if (message.data === "close") await hub.close();
      }
      console.log("the loop has ended");
    };
    void read();
    void (await hub.subscribe("b")).next();`;
  const running = promisify(execFile)(process.execPath, ["--input-type=module", "-e", code], { cwd: PACKAGE, timeout: PATIENCE });
  const peer = await accept();
  for (let open = true; open; ) {
    const { id, method, params } = await peer.next();
    if (method === "method.register") {
      peer.result(id, { method: "mine", callees: 1 });
    } else if (method === "subscribe") {
      peer.result(id, { topic: params.topic, epoch: "e1", offset: 0, recovered: false });
      open = params.topic !== "b";
    }
  }
  peer.send({ id: "h:1", method: "mine", params: {} });
  peer.event("a", 1, "close");
  assert.equal((await running).stdout, "the loop has ended\n");
});

for (const option of ["pingIntervalMs", "pingTimeoutMs"] as const) {
  test(`${option} 0 is a TypeError`, async () => {
    assert.ok((await rejection(connect("ws://127.0.0.1:1/ws", { [option]: 0 }))) instanceof TypeError);
  });
}

test("a delay of nothing is a TypeError", async () => {
  for (const reconnect of [{ minDelayMs: 0 }, { ...SOON, maxDelayMs: Number.NaN }]) {
    assert.ok((await rejection(connect("ws://127.0.0.1:1/ws", { reconnect }))) instanceof TypeError);
  }
});
