/**
 * The hub in memory that users test with: it does what the real one does, and what a real one does seldom.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { CancelledError, DisconnectedError, OverloadedError, RpcError, TimeoutError, UsageError } from "../src/index.js";
import { MockHub } from "../src/testing/index.js";
import { take } from "./support/messages.js";
import { Watched } from "./support/resilient.js";
import { rejection } from "./support/scripted.js";
import { EARLY_MS, until, within } from "./support/time.js";

function forEver(): Promise<never> {
  return new Promise(() => {
    // Nobody settles it.
  });
}

async function* counted(n: number): AsyncGenerator {
  for (let index = 0; index < n; index += 1) {
    await Promise.resolve();
    yield index;
  }
  return { done: n };
}

async function drained(chunks: AsyncIterable<unknown>): Promise<void> {
  for await (const _ of chunks) {
    // Only the end matters.
  }
}

test("methods, their errors, and what was called", async () => {
  const mock = new MockHub()
    .method<{ text: string }>("text.upper", ({ text }) => text.toUpperCase())
    .method("text.bad", () => {
      throw new RpcError({ code: 4321, message: "no such text", data: { key: 1 } });
    })
    .method("text.bug", () => {
      throw new TypeError("oops");
    });
  const hub = await mock.connect();
  assert.equal(await hub.call("text.upper", { text: "a" }, { metadata: { tag: 1 } }), "A");
  const bad = await rejection(hub.call("text.bad"));
  assert.ok(bad instanceof RpcError);
  assert.deepEqual([bad.code, bad.message, bad.errorName], [4321, "no such text", "APPLICATION_ERROR"]);
  const bug = (await rejection(hub.call("text.bug"))) as RpcError;
  assert.deepEqual([bug.code, bug.maybeExecuted, bug.recovery], [-32603, true, "fatal"]);
  assert.match(bug.message, /^text\.bug failed: TypeError \(id [0-9a-f]+\)$/u, "neither its text nor its stack, as by a hub");
  const unknown = (await rejection(hub.call("text.lower"))) as RpcError;
  assert.deepEqual([unknown.code, unknown.message], [-32601, `no method 'text.lower': mock.method("text.lower", ...) adds it`]);
  hub.notify("text.seen", { n: 1 });
  await within("the notification", until(() => mock.calls.length === 5));
  assert.deepEqual(mock.calls[0], { method: "text.upper", params: { text: "a" }, metadata: { tag: 1 }, isNotification: false });
  assert.equal(mock.calls[4]?.isNotification, true);
  await hub.close();
});

test("what JSON cannot carry ends the call that it belongs to with 1003, and says where it stands", async () => {
  let left = 0;
  const sets = [new Map([["a", 1]]), { deep: [1n] }, { size: Number.NaN }, new Set([1]), () => 1, { text: "\uD800" }];
  const mock = new MockHub()
    .method<{ n: number }>("result", ({ n }) => sets[n])
    .method<{ n: number }>("error", ({ n }) => {
      throw new RpcError({ code: 4321, message: "no", data: { what: sets[n] } });
    })
    .method<{ n: number }>("chunks", async function* chunks({ n }) {
      try {
        yield "good";
        yield sets[n];
        yield "never";
      } finally {
        left += 1;
      }
    })
    .method<{ n: number }>("told", ({ n }, { progress }) => {
      progress(sets[n]);
    });
  const hub = await mock.connect();
  const places = [["result", "result"], ["error", "error.data.what"], ["chunks", "params.data"], ["told", "params.value"]] as const;
  for (const [method, place] of places) {
    for (const n of sets.keys()) {
      const options = { onProgress: () => undefined, idempotencyKey: `${method} ${n}` };
      const outcome = method === "chunks" ? drained(hub.stream(method, { n })) : hub.call(method, { n }, options);
      const error = await within(`the end of ${method} ${n}`, rejection(outcome));
      assert.ok(error instanceof RpcError, String(error));
      assert.deepEqual([error.code, error.errorName, error.maybeExecuted], [1003, "SERIALIZATION_ERROR", true]);
      assert.ok(error.message.startsWith(`${method}: ${place}`), error.message);
    }
  }
  assert.equal(left, sets.length, "each stream was left");
  hub.notify("result", { n: 0 });
  assert.throws(() => mock.publish("orders.1", { list: sets }), /^TypeError: data\.list\.0 is a Map/u);
  assert.equal(mock.publish("orders.1", 1).offset, 1, "nothing was kept of it");
  await hub.close();
});

test("streams with credit, input, progress, cancels and deadlines", async () => {
  let left = false;
  const mock = new MockHub()
    .method<{ n: number }>("count", ({ n }) => counted(n))
    .method("endless", async function* endless() {
      try {
        for (let index = 0; ; index += 1) {
          yield index;
        }
      } finally {
        left = true;
      }
    })
    .method("sum", async (_params, { input, progress }) => {
      let sum = 0;
      for await (const item of input) {
        sum += item as number;
        progress(sum);
      }
      return sum;
    })
    .method("never", (_params, { signal }) => new Promise((resolve) => {
      signal.addEventListener("abort", resolve);
    }));
  const hub = await mock.connect();
  const stream = hub.stream("count", { n: 500 }, { window: { items: 8 } });
  const got: unknown[] = [];
  for await (const { data } of stream) {
    got.push(data);
  }
  assert.deepEqual([got.length, await stream.result], [500, { done: 500 }]);
  assert.deepEqual(await hub.stream("count", { n: 0 }).result, { done: 0 });
  for await (const { index } of hub.stream("endless")) {
    if (index === 100) {
      break;
    }
  }
  await within("the generator is left", until(() => left));
  const reports: unknown[] = [];
  const sum = await hub.call("sum", {}, { input: Array.from({ length: 200 }, () => 1), onProgress: (value) => reports.push(value) });
  assert.deepEqual([sum, reports.length], [200, 200]);
  assert.ok((await rejection(hub.call("count", { n: 3 }))) instanceof UsageError);
  const controller = new AbortController();
  const never = rejection(hub.call("never", {}, { signal: controller.signal }));
  controller.abort();
  assert.ok((await never) instanceof CancelledError);
  assert.ok((await rejection(hub.call("never", {}, { timeoutMs: 20, retry: false }))) instanceof TimeoutError);
  await hub.close();
});

test("topics: events, history, recovery; methods that clients serve", async () => {
  const mock = new MockHub();
  const [hub, other] = await Promise.all([mock.connect(), mock.connect()]);
  mock.publish("orders.1", "early");
  const late = await hub.subscribe("orders.1", { history: 5 });
  const pattern: unknown[] = [];
  await hub.on("orders.*", (data) => pattern.push(data));
  await other.publish("orders.1", { done: 7 });
  const seen: unknown[] = [];
  for await (const message of late) {
    assert.ok(message.kind === "event");
    seen.push([message.data, message.offset]);
    if (message.offset === 2) {
      break;
    }
  }
  assert.deepEqual(seen, [["early", 1], [{ done: 7 }, 2]]);
  await within("the pattern's event", until(() => pattern.length === 1));
  await hub.register<{ key: string }>("node.lookup", ({ key }) => ({ key, found: true }));
  assert.deepEqual(await mock.call("node.lookup", { key: "a" }), { key: "a", found: true });
  await Promise.all([hub.close(), other.close()]);
});

test("what a hub does once, a mock does once; and clients call each other", async () => {
  let ran = 0;
  const mock = new MockHub().method("once", () => {
    ran += 1;
    return ran;
  });
  const [hub, other] = await Promise.all([mock.connect(), mock.connect()]);
  const calls = [1, 2, 3].map(() => hub.call("once", {}, { idempotencyKey: "k" }));
  assert.deepEqual(await Promise.all(calls), [1, 1, 1]);
  const misused = (await rejection(hub.call("once", { n: 2 }, { idempotencyKey: "k" }))) as RpcError;
  assert.equal(misused.code, -32602);
  await other.register("node.count", async function* count() {
    yield* ["a", "b"];
  }, { streaming: true });
  const got: unknown[] = [];
  for await (const { data } of hub.stream("node.count")) {
    got.push(data);
  }
  assert.deepEqual(got, ["a", "b"]);
  const [first, second] = [await hub.publish("t", 1, { idempotencyKey: "e" }), await hub.publish("t", 2, { idempotencyKey: "e" })];
  assert.deepEqual(first, second);
  const refused = (await rejection(hub.publish("system.mine", 1))) as RpcError;
  assert.equal(refused.code, 6002);
  await Promise.all([hub.close(), other.close()]);
});

test("a reply to a client that is away is there when it is back", async () => {
  let isHeld = true;
  let hasAnswered = false;
  const mock = new MockHub().method("held", async () => {
    await until(() => !isHeld);
    hasAnswered = true;
    return "kept";
  });
  const hub = await mock.connect();
  const held = hub.call("held");
  await within("it runs", until(() => mock.calls.length === 1));
  mock.offline(true);
  isHeld = false;
  await within("the answer", until(() => hasAnswered));
  mock.offline(false);
  assert.equal(await within("the reply", held), "kept");
  await hub.close();
});

test("a cut goes unnoticed: calls, streams, subscriptions and served methods go on", async () => {
  let isHeld = true;
  const mock = new MockHub()
    .method("held", async () => {
      await until(() => !isHeld);
      return "kept";
    })
    .method<{ n: number }>("count", ({ n }) => counted(n));
  const watched = await Watched.connect(mock.url, { WebSocket: mock.WebSocket, reconnect: { minDelayMs: 1, maxDelayMs: 5 } });
  const { hub } = watched;
  await hub.register("mine", () => "served");
  const orders = await hub.subscribe("orders.1");
  const call = hub.call("held");
  const stream = hub.stream("count", { n: 300 }, { window: { items: 4 } });
  const got: number[] = [];
  for await (const { data } of stream) {
    got.push(data as number);
    if (data === 50 || data === 200) {
      mock.cut();
    }
  }
  assert.deepEqual(got, Array.from({ length: 300 }, (_, index) => index));
  isHeld = false;
  assert.equal(await call, "kept");
  assert.ok(watched.story.includes("resumed"));
  mock.publish("orders.1", 1);
  for await (const message of orders) {
    assert.ok(message.kind === "event");
    break;
  }
  assert.equal(await mock.call("mine"), "served");
  await hub.close();
});

test("a restart: what may have run says so, what drains waits, events since are announced as a gap", async () => {
  const mock = new MockHub().method("slow", (_params, { signal }) => until(() => signal.aborted)).method("quick", () => "done");
  const watched = await Watched.connect(mock.url, { WebSocket: mock.WebSocket, reconnect: { minDelayMs: 1, maxDelayMs: 5 } });
  const { hub } = watched;
  const orders = await hub.subscribe("orders.1");
  mock.publish("orders.1", 1);
  assert.match((await take(orders, 1)).join(), /orders\.1:1$/u);
  const slow = rejection(hub.call("slow"));
  await within("it runs", until(() => mock.calls.length === 1));
  mock.drain();
  const waiting = hub.call("quick");
  mock.restart();
  const error = await slow;
  assert.ok(error instanceof DisconnectedError && error.maybeExecuted);
  assert.equal(await within("the call that waited", waiting), "done");
  assert.match((await take(orders, 1)).join(), /epoch$/u);
  await hub.close();
});

test("refusals: of calls, of connections, and no network", async () => {
  const mock = new MockHub().method("quick", () => "done");
  const hub = await mock.connect();
  mock.refuse("quick", { code: 2002, message: "full", data: { retry_after_ms: 5 } }, 2);
  assert.equal(await hub.call("quick", {}, { retry: { baseDelayMs: 1 } }), "done", "the third attempt");
  mock.refuse("quick", { code: 2002, message: "full" });
  assert.ok((await rejection(hub.call("quick", {}, { retry: false }))) instanceof OverloadedError);
  mock.offline(true);
  const waiting = hub.call("quick");
  mock.offline(false);
  assert.equal(await within("it comes back", waiting), "done");
  mock.refuseConnections(4501, "the token is not valid");
  mock.cut();
  assert.deepEqual(await within("the end", hub.closed), { code: 4501, reason: "the token is not valid" });
});

test("answers come as late as they are told to", async () => {
  const mock = new MockHub().method("quick", () => "done");
  const hub = await mock.connect();
  mock.delayMs = 60;
  const begun = performance.now();
  await hub.call("quick");
  assert.ok(performance.now() - begun >= 60 - EARLY_MS);
  await hub.close();
});

test("a mock that is closed ends its clients, those that are away, too", async () => {
  const mock = new MockHub().method("never", forEver);
  const [hub, away] = [await mock.connect(), await mock.connect()];
  const call = rejection(hub.call("never"));
  mock.offline(true);
  await within("both are away", until(() => away.connectionState === "reconnecting"));
  mock.offline(false);
  mock.close();
  assert.equal((await within("the end of one", hub.closed)).code, 4502);
  assert.equal((await within("the end of the other", away.closed)).code, 4502);
  assert.ok((await call) instanceof DisconnectedError);
});

test("a key is known to one run, and a pattern loses nothing over a cut", async () => {
  const mock = new MockHub().method("slow", forEver);
  const hub = await mock.connect();
  const call = rejection(hub.call("slow", {}, { idempotencyKey: "k" }));
  const orders = await hub.subscribe<number>("orders.*");
  mock.publish("orders.1", 1);
  mock.offline(true);
  mock.publish("orders.1", 2);
  mock.publish("orders.2", 3);
  mock.offline(false);
  const came = await take(orders, 3);
  assert.deepEqual(came.map((message) => message.replace(/^.*?\//u, "")).toSorted(), ["orders.1:1", "orders.1:2", "orders.2:1"]);
  assert.deepEqual((await hub.history("orders.1", { limit: 1 })).events.map(({ data }) => data), [2]);
  mock.restart();
  const error = await call;
  assert.ok(error instanceof RpcError);
  assert.deepEqual([error.code, error.maybeExecuted], [2001, true]);
  mock.close();
});
