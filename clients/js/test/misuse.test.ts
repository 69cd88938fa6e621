/**
 * What callers get wrong is said, with the place; what they do in good faith is quiet.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { runInNewContext } from "node:vm";
import { connect, RpcError, type CallOptions, type ConnectionState } from "../src/index.js";
import { encode } from "../src/encode.js";
import { States } from "../src/states.js";
import { connected, rejection, roundTrip } from "./support/scripted.js";

class Point {
  readonly #x = 1;
  get x(): number {
    return this.#x;
  }
}

for (const [name, value] of [
  ["Map", new Map([[1, 2]])],
  ["Set", new Set([1])],
  ["Promise", Promise.resolve(1)],
  ["Error", new Error("x")],
  ["TypeError", Object.assign(new TypeError("x"), { code: "E" })],
  ["Blob", new Blob(["x"])],
  ["RegExp", /x/u],
  ["WeakMap", new WeakMap()],
  ["FormData", new FormData()],
  ["Point", new Point()],
] as const) {
  test(`a ${name} in params is refused with its path, and not sent as {}`, () => {
    assert.throws(() => encode({ params: { items: [{ x: value }] } }), {
      name: "TypeError",
      message: `params.items.0.x is a ${name}, which has no form in JSON`,
    });
  });
}

test("functions and symbols are refused: JSON would leave them out", () => {
  assert.throws(() => encode({ params: { f: () => 1 } }), { message: "params.f is a function" });
  assert.throws(() => encode({ params: [Symbol("s")] }), { message: "params.0 is a symbol" });
});

test("what has a form in JSON is sent: plain objects of any realm, dates, classes with members, toJSON", () => {
  class Size {
    readonly width = 2;
  }
  const foreign: unknown = runInNewContext("({ a: {}, b: [] })");
  const value = { date: new Date(0), size: new Size(), url: new URL("http://a/b"), bare: Object.create(null) as object, foreign, none: {} };
  assert.equal(
    encode({ params: value }),
    '{"params":{"date":"1970-01-01T00:00:00.000Z","size":{"width":2},"url":"http://a/b","bare":{},"foreign":{"a":{},"b":[]},"none":{}}}',
  );
});

test("an option that there is none of is refused by name, wherever options are", async (t) => {
  const { hub } = await connected(t);
  const misspelt = { timeout: 5 } as CallOptions;
  const says = /^TypeError: unknown option (?:timeout|maxRetries): there are /u;
  assert.match(String(await rejection(hub.call("x", {}, misspelt))), says);
  assert.match(String(await rejection(hub.publish("x", 1, misspelt))), says);
  assert.match(String(await rejection(hub.subscribe("x", misspelt))), says);
  assert.match(String(await rejection(hub.register("x", () => 1, misspelt))), says);
  assert.throws(() => hub.stream("x", {}, misspelt), says);
  assert.match(String(await rejection(connect("ws://127.0.0.1:1/ws", { maxRetries: 3 } as object))), says);
});

function wrong(value: unknown): CallOptions {
  return value as CallOptions;
}

test("so it is one level down, and what is no option at all is said", async (t) => {
  const { hub } = await connected(t);
  for (const [options, says] of [
    [{ retry: { attempt: 3 } }, /unknown option attempt: there are attempts, baseDelayMs, factor/u],
    [{ retry: 5 }, /options have to be an object, not number/u],
    [5_000, /options have to be an object, not number/u],
    [() => 1, /options have to be an object, not function/u],
  ] as const) {
    assert.match(String(await rejection(hub.call("x", {}, wrong(options)))), says);
  }
  assert.throws(() => hub.stream("x", {}, wrong({ window: { item: 3 } })), /unknown option item: there are items, bytes/u);
  assert.match(String(await rejection(connect("ws://127.0.0.1:1/ws", wrong({ reconnect: { minDelay: 3 } })))), /unknown option minDelay/u);
  assert.match(String(await rejection(connect("ws://127.0.0.1:1/ws", wrong({ token: { token: "x" } })))), /token has to be a string, not object/u);
  assert.match(String(await rejection(hub.publish("x", 1, wrong({ input: ["x"] })))), /unknown option input/u);
  assert.match(String(await rejection(hub.subscribe("x", (() => 1) as object))), /on\(topic, listener\) takes a listener/u);
  assert.match(String(await rejection(hub.register("x", {} as () => unknown))), /handler has to be a function, not object/u);
  assert.throws(() => hub.onConnectionState("x" as never), /listener has to be a function, not string/u);
});

test("undefined in an array is refused: JSON would make null of it", () => {
  assert.throws(() => encode({ params: [1, undefined] }), { message: "params.1 is undefined: send null" });
  // oxlint-disable-next-line no-sparse-arrays -- it is what is tested
  assert.throws(() => encode({ params: { a: [1, , 3] } }), { message: "params.a.1 is undefined: send null" });
  assert.equal(encode({ params: { a: undefined, b: 1 } }), '{"params":{"b":1}}', "as everywhere in JavaScript");
});

test("errors lead to their call: method, request id, the caller's stack, and all of it as JSON", async (t) => {
  const { hub, peer } = await connected(t);
  async function theCaller(): Promise<void> {
    await hub.call("a.method", { x: 1 });
  }
  const failed = rejection(theCaller());
  const { id } = await peer.next();
  peer.error(id, 3003, { type: "PIPELINE_EXECUTION_ERROR", retryable: false, maybe_executed: true });
  const error = await failed;
  assert.ok(error instanceof RpcError);
  assert.deepEqual([error.method, error.requestId], ["a.method", id]);
  assert.match(error.stack ?? "", /^RpcError: error 3003\n[^]*theCaller/u);
  assert.doesNotMatch(error.stack ?? "", /located/u);
  assert.deepEqual(JSON.parse(JSON.stringify({ error })), {
    error: {
      name: "RpcError",
      kind: "rpc",
      message: "error 3003",
      code: 3003,
      errorName: "PIPELINE_EXECUTION_ERROR",
      method: "a.method",
      requestId: id,
      maybeExecuted: true,
      retryable: false,
      data: { type: "PIPELINE_EXECUTION_ERROR", retryable: false, maybe_executed: true },
    },
  });
});

test("errors of streams lead to who reads them", async (t) => {
  const { hub, peer } = await connected(t);
  async function theReader(): Promise<void> {
    for await (const chunk of hub.stream("a.stream")) {
      assert.equal(chunk.index, 0);
    }
  }
  const failed = rejection(theReader());
  const { id } = await peer.next();
  peer.chunk(id, 0, "a");
  peer.error(id, 3003);
  const error = (await failed) as RpcError;
  assert.deepEqual([error.method, error.requestId], ["a.stream", id]);
  assert.match(error.stack ?? "", /theReader/u);
});

test("a hundred calls on one signal warn nobody", async (t) => {
  const warned: Error[] = [];
  const hear = (warning: Error): void => {
    warned.push(warning);
  };
  process.on("warning", hear);
  t.after(() => process.off("warning", hear));
  const { hub, peer } = await connected(t);
  const { signal } = new AbortController();
  const calls = Array.from({ length: 100 }, () => hub.call("x", {}, { signal }));
  for (let n = 0; n < 100; n += 1) {
    peer.result((await peer.next()).id, n);
  }
  assert.equal((await Promise.all(calls)).length, 100);
  await roundTrip(hub, peer);
  assert.deepEqual(warned, []);
});

test("listeners of the state hear each change once, and in order, whatever they do", () => {
  const states = new States();
  const heard: string[] = [];
  const note = (who: string) => (state: ConnectionState) => {
    heard.push(`${who} ${state.state}`);
  };
  const up: ConnectionState = { state: "connected", resumed: false };
  const closed: ConnectionState = { state: "closed", code: 1000, reason: "" };
  states.listen((state) => {
    note("closing")(state);
    if (state.state === "connected") {
      states.tell(closed);
      assert.equal(states.current, "closed");
    }
  });
  const again = (state: ConnectionState): void => {
    note("again")(state);
    leave();
    leave = states.listen(again);
  };
  let leave = states.listen(again);
  const leaveOther = states.listen(note("other"));
  states.listen(() => {
    leaveOther();
  });
  states.tell(up);
  assert.deepEqual(heard, [
    "closing connected", "again connected", "other connected", "closing closed", "again closed",
  ]);
});
