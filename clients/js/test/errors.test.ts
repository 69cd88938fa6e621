import assert from "node:assert/strict";
import { test } from "node:test";
import {
  CancelledError,
  ConnectError,
  DisconnectedError,
  ERROR_CODES,
  isHubError,
  OverloadedError,
  ProtocolError,
  RpcError,
  TimeoutError,
  TrunklineError,
  type HubError,
} from "../src/index.js";
import { connected, rejection } from "./support/scripted.js";

const SUBCLASSES = new Map<number, { readonly type: typeof RpcError; readonly kind: string }>([
  [-32800, { type: CancelledError, kind: "cancelled" }],
  [1002, { type: TimeoutError, kind: "timeout" }],
  [2002, { type: OverloadedError, kind: "overloaded" }],
  [6003, { type: OverloadedError, kind: "overloaded" }],
]);

for (const [errorName, code] of Object.entries(ERROR_CODES)) {
  test(`${code} is ${errorName}`, async (t) => {
    const { hub, peer } = await connected(t);
    const call = hub.call("m");
    const data = { type: errorName, recovery: "fallback", retryable: true, maybe_executed: false, retry_after_ms: 250 };
    peer.error((await peer.next()).id, code, { ...data, trace_id: "t-1" });
    const error = await rejection(call);
    const { type, kind } = SUBCLASSES.get(code) ?? { type: RpcError, kind: "rpc" };
    assert.ok(error instanceof type);
    assert.equal(error.constructor, type);
    assert.deepEqual([error.name, error.kind, error.errorName], [type.name, kind, errorName]);
    assert.deepEqual([error.code, error.message], [code, `error ${code}`]);
    assert.deepEqual([error.retryable, error.recovery, error.maybeExecuted], [true, "fallback", false]);
    assert.equal(error.retryAfterMs, 250);
    assert.deepEqual(error.data, { ...data, trace_id: "t-1" });
  });
}

test("codes the table does not know are application errors", async (t) => {
  const { hub, peer } = await connected(t);
  const call = hub.call("m");
  peer.error((await peer.next()).id, 777, { maybe_executed: true });
  const error = await rejection(call);
  assert.ok(error instanceof RpcError);
  assert.deepEqual([error.code, error.errorName, error.maybeExecuted], [777, "APPLICATION_ERROR", true]);
});

for (const [code, maybeExecuted] of [[-32600, false], [-32601, false], [-32602, false], [-32603, true], [2001, true]] as const) {
  test(`${code} without data: maybeExecuted is ${maybeExecuted}`, async (t) => {
    const { hub, peer } = await connected(t);
    const call = hub.call("m");
    peer.error((await peer.next()).id, code);
    const error = await rejection(call);
    assert.ok(error instanceof RpcError);
    assert.equal(error.maybeExecuted, maybeExecuted);
    assert.deepEqual([error.retryable, error.recovery, error.retryAfterMs, error.data], [false, undefined, undefined, undefined]);
  });
}

test("data with members of the wrong type does no harm", async (t) => {
  const { hub, peer } = await connected(t);
  const call = hub.call("m");
  peer.error((await peer.next()).id, 2002, {
    maybe_executed: "no",
    retryable: 1,
    recovery: "pray",
    retry_after_ms: "soon",
  });
  const error = await rejection(call);
  assert.ok(error instanceof OverloadedError);
  assert.deepEqual(
    [error.maybeExecuted, error.retryable, error.recovery, error.retryAfterMs],
    [true, false, undefined, undefined],
  );
});

test("data may be any JSON", async (t) => {
  const { hub, peer } = await connected(t);
  const calls = [hub.call("m"), hub.call("m"), hub.call("m")];
  peer.error(1, 3003, "text");
  peer.error(2, 3003, [1, 2]);
  peer.error(3, 3003, null);
  const data = [];
  for (const call of calls) {
    const error = await rejection(call);
    assert.ok(error instanceof RpcError);
    data.push(error.data);
  }
  assert.deepEqual(data, ["text", [1, 2], null]);
});

test("HubError narrows by kind", () => {
  const errors: unknown[] = [
    new RpcError({ code: 2001, message: "crashed" }),
    new OverloadedError({ code: 2002, message: "full", data: { retry_after_ms: 5 } }),
    new DisconnectedError({ code: 1006, reason: "" }, true),
    new ConnectError("refused"),
    new ProtocolError("gap"),
    new Error("someone else's"),
  ];
  assert.deepEqual(
    errors.map((error) => (isHubError(error) ? describe(error) : "foreign")),
    ["rpc 2001", "retry in 5", "closed 1006", "connect", "protocol", "foreign"],
  );
  assert.ok(errors.slice(0, 5).every((error) => error instanceof TrunklineError && error instanceof Error));
});

/** Compiles only while `kind` discriminates. */
function describe(error: HubError): string {
  switch (error.kind) {
    case "rpc":
      return `rpc ${error.code}`;
    case "overloaded":
      return `retry in ${error.retryAfterMs}`;
    case "disconnected":
      return `closed ${error.code}`;
    case "timeout":
    case "cancelled":
    case "connect":
    case "protocol":
    case "usage":
      return error.kind;
    default:
      return error satisfies never;
  }
}

test("a DisconnectedError says what happened in words", () => {
  const sent = new DisconnectedError({ code: 1012, reason: "restart" }, true);
  assert.equal(sent.message, "disconnected (close 1012: restart); it may have been executed");
  const unsent = new DisconnectedError({ code: 1006, reason: "" }, false);
  assert.equal(unsent.message, "disconnected (close 1006); it was not sent");
});
