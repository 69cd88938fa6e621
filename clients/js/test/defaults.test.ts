/**
 * What a program says once for all its calls, and listeners of topics.
 */
import assert from "node:assert/strict";
import { test, type TestContext } from "node:test";
import { CancelledError, RpcError, type Interceptor } from "../src/index.js";
import { connected, rejection, roundTrip } from "./support/scripted.js";
import { until, within } from "./support/time.js";

/** What nobody has caught from now on, instead of failing the test. */
function surfacing(t: TestContext, event: "uncaughtException" | "unhandledRejection"): unknown[] {
  const seen: unknown[] = [];
  const before = process.rawListeners(event) as ((error: unknown) => void)[];
  process.removeAllListeners(event);
  process.on(event, (error: unknown) => {
    seen.push(error);
  });
  t.after(() => {
    process.removeAllListeners(event);
    for (const listener of before) {
      process.on(event, listener);
    }
  });
  return seen;
}

test("metadata and timeout of the connection are those of each call that says nothing else", async (t) => {
  let asked = 0;
  const metadata = (): { traceparent: string } => ({ traceparent: `t${(asked += 1)}` });
  const { hub, peer } = await connected(t, { metadata, timeoutMs: 50_000 });
  const calls = [hub.call("a"), hub.call("b", {}, { timeoutMs: 60_000, metadata: { traceparent: "own", tag: 1 } })];
  const said = [await peer.next(), await peer.next()];
  assert.deepEqual(said.map((request) => request.metadata), [
    { traceparent: "t1", timeout_ms: 50_000 },
    { traceparent: "own", tag: 1, timeout_ms: 60_000 },
  ]);
  for (const { id } of said) {
    peer.result(id, null);
  }
  await Promise.all(calls);
  const stream = hub.stream("c");
  assert.equal((await peer.next()).metadata?.["timeout_ms"], undefined, "which would limit its silence");
  peer.finalChunk(3, 0);
  peer.result(3, null);
  await stream.result;
});

const rename: Interceptor = (call, next) =>
  next({ ...call, method: `v2.${call.method}`, params: { ...call.params, tenant: 7 } });

test("interceptors see each call and its outcome, may change it, or answer in its place", async (t) => {
  const seen: string[] = [];
  const log: Interceptor = (call, next) => {
    seen.push(`${call.isStream ? "stream" : "call"} ${call.method}`);
    const outcome = next(call);
    if (outcome instanceof Promise) {
      outcome.then(
        () => seen.push(`${call.method} done`),
        (error: unknown) => seen.push(`${call.method} ${(error as Error).message}`),
      );
    }
    return outcome;
  };
  const { hub, peer } = await connected(t, { interceptors: [log, rename] });
  const call = hub.call("a", { x: 1 });
  const request = await peer.next();
  assert.deepEqual([request.method, request.params], ["v2.a", { x: 1, tenant: 7 }]);
  peer.result(request.id, "r");
  assert.equal(await call, "r");
  const failing = rejection(hub.call("b"));
  peer.error((await peer.next()).id, 3003);
  assert.ok((await failing) instanceof RpcError);
  const stream = hub.stream("c");
  peer.finalChunk((await peer.next()).id, 0);
  peer.result(3, null);
  await stream.result;
  assert.deepEqual(seen, ["call a", "a done", "call b", "b error 3003", "stream c"]);
});

test("a listener is given each event in order, waited for, and left alone by what it throws", async (t) => {
  const uncaught = surfacing(t, "uncaughtException");
  const { hub, peer } = await connected(t);
  const heard: string[] = [];
  const gaps: number[] = [];
  const subscribing = hub.on<number>(
    "orders.1",
    async (data, { offset }) => {
      await Promise.resolve();
      heard.push(`${offset}: ${data}`);
      if (data === 2) {
        throw new Error("the listener's own");
      }
    },
    { onGap: ({ from, to }) => gaps.push(from, to) },
  );
  await peer.subscribed(0);
  const subscription = await subscribing;
  peer.event("orders.1", 1, 1);
  peer.event("orders.1", 2, 2);
  peer.gap("orders.1", 3, 4);
  peer.event("orders.1", 5, 5);
  await within("all events", until(() => heard.length === 3));
  assert.deepEqual([heard, gaps], [["1: 1", "2: 2", "5: 5"], [3, 4]]);
  await within("its error", until(() => uncaught.length === 1));
  assert.equal((uncaught[0] as Error).message, "the listener's own");
  const left = subscription.unsubscribe();
  await peer.unsubscribed("orders.1");
  await left;
  await roundTrip(hub, peer);
});

test("a topic that may not be listened to rejects", async (t) => {
  const { hub, peer } = await connected(t);
  const refused = rejection(hub.on("secret", () => undefined));
  peer.error((await peer.next()).id, 6002);
  assert.ok((await refused) instanceof RpcError);
});

test("who ends it by its signal need not wait to hear so, and is told everything else", async (t) => {
  const unhandled = surfacing(t, "unhandledRejection");
  const { hub, peer } = await connected(t);
  const stop = new AbortController();
  void hub.on("orders.1", () => undefined, { signal: stop.signal });
  const awaited = rejection(hub.on("orders.2", () => undefined, { signal: stop.signal }));
  const [first, second] = [await peer.next(), await peer.next()];
  stop.abort();
  void hub.on("orders.3", () => undefined, { signal: stop.signal });
  void hub.on("secret", () => undefined, { signal: new AbortController().signal });
  assert.ok((await awaited) instanceof CancelledError, "who waits is told");
  assert.deepEqual([first.method, second.method], ["subscribe", "subscribe"]);
  let asked = await peer.next();
  while (asked.params["topic"] !== "secret") {
    asked = await peer.next();
  }
  peer.error(asked.id, 6002);
  await within("the refusal", until(() => unhandled.length > 0));
  assert.deepEqual(unhandled.map((error) => error instanceof RpcError && error.code), [6002]);
});
