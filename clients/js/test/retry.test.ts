/**
 * Which calls are made again, and when: the rules by themselves, then through a scripted hub.
 */
import assert from "node:assert/strict";
import { getEventListeners } from "node:events";
import { test } from "node:test";
import { fullJitter } from "../src/backoff.js";
import { CancelledError, DisconnectedError, OverloadedError, RpcError, TimeoutError, type SessionEnd } from "../src/index.js";
import { retryDelay } from "../src/retry.js";
import { connected, rejection, roundTrip } from "./support/scripted.js";
import { stoppedClock, within } from "./support/time.js";

test("full jitter: from nothing to a limit that grows up to a maximum", () => {
  const policy = { minMs: 500, maxMs: 20_000 };
  const most = [0, 1, 2, 5, 6, 60, 2_000].map((attempt) => fullJitter(attempt, policy, () => 1));
  assert.deepEqual(most, [500, 1_000, 2_000, 16_000, 20_000, 20_000, 20_000]);
  assert.equal(fullJitter(10_000, { minMs: 100 }, () => 1), 60_000, "no timer is longer than it can be");
  assert.equal(fullJitter(9, policy, () => 0), 0);
  assert.equal(fullJitter(3, { minMs: 100, factor: 3 }, () => 0.5), 1_350);
  const drawn = Array.from({ length: 200 }, () => fullJitter(1, policy));
  assert.ok(drawn.every((ms) => ms >= 0 && ms < 1_000) && new Set(drawn).size > 100);
});

const POLICY = { attempts: 3, baseDelayMs: 1_000, factor: 2 };

function rpc(maybeExecuted: boolean, retryable = true, retryAfter?: number): RpcError {
  const data = { retryable, maybe_executed: maybeExecuted, retry_after_ms: retryAfter };
  return new RpcError({ code: 2002, message: "full", data });
}

function lost(maybeExecuted: boolean, sessionEnd?: SessionEnd): DisconnectedError {
  return new DisconnectedError({ code: 1006, reason: "" }, maybeExecuted, undefined, sessionEnd);
}

const OTHER_RUN = new RpcError({ code: 2001, message: "gone", data: { retryable: true, maybe_executed: true, idempotency: "epoch" } });

for (const [what, error, plain, idempotent, keyed, told] of [
  ["refused for the moment", rpc(false), true, true, true, true],
  ["failed for the moment, perhaps half done", rpc(true), false, true, true, true],
  ["refused for good", rpc(false, false), false, false, false, false],
  ["refused by another run of the hub", OTHER_RUN, false, true, false, false],
  ["cancelled", new CancelledError({ code: -32800, message: "no", data: { retryable: true } }), false, false, false, false],
  ["lost, nobody knows how", lost(true), false, true, false, true],
  ["lost with another hub", lost(true, "unknown"), false, true, false, true],
  ["lost, the same hub expired the session", lost(true, "expired"), false, true, false, true],
  ["not sent at all", lost(false), false, false, false, false],
  ["a bug of the caller's", new TypeError("no"), false, false, false, false],
] as const) {
  test(`${what}: ${plain ? "" : "not "}again; idempotent ${idempotent}, with a key ${keyed}, and an epoch ${told}`, () => {
    const again = [
      retryDelay(error, 1, POLICY, { isIdempotent: false, hasKey: false }),
      retryDelay(error, 1, POLICY, { isIdempotent: true, hasKey: false }),
      retryDelay(error, 1, POLICY, { isIdempotent: false, hasKey: true }),
      retryDelay(error, 1, POLICY, { isIdempotent: false, hasKey: true, hasEpoch: true }),
    ].map((delayMs) => delayMs !== undefined);
    assert.deepEqual(again, [plain, idempotent, keyed, told]);
  });
}

test("attempts are counted, delays grow, and the hub's hint is heeded", () => {
  const call = { isIdempotent: false, hasKey: false };
  const delays = [1, 2, 3, 4].map((attempt) => retryDelay(rpc(false), attempt, POLICY, call, () => 1));
  assert.deepEqual(delays, [1_000, 2_000, undefined, undefined]);
  assert.equal(retryDelay(rpc(false, true, 250), 1, POLICY, call, () => 0), 250);
  assert.equal(retryDelay(rpc(false, true, 250), 1, POLICY, call, () => 1), 1_000);
});

const FULL = { retryable: true, maybe_executed: false };

test("a call is made again under a new id until it succeeds", async (t) => {
  const pass = stoppedClock(t);
  const { hub, peer } = await connected(t, { retry: { baseDelayMs: 1 } });
  const params = { list: [1] };
  const call = hub.call("m", params, { onProgress: () => {} });
  params.list.push(2);
  const first = await peer.next();
  peer.error(1, 2002, { ...FULL, retry_after_ms: 60 });
  await roundTrip(hub, peer);
  pass(59);
  // It waits as long as it was told to: nothing else was sent.
  await roundTrip(hub, peer);
  pass(1);
  const second = await peer.next();
  assert.deepEqual([first.id, second.id, second.params, second.metadata], [1, 4, { list: [1] }, { progress_token: 4 }]);
  peer.result(4, "done");
  assert.equal(await call, "done");
});

test("after the last attempt its error is the outcome", async (t) => {
  const { hub, peer } = await connected(t, { retry: { baseDelayMs: 1 } });
  const call = rejection(hub.call("m"));
  for (let id = 1; id <= 3; id += 1) {
    await peer.next();
    peer.error(id, 2002, FULL);
  }
  assert.ok((await call) instanceof OverloadedError);
  await roundTrip(hub, peer);
});

test("what an earlier attempt may have done is not forgotten", async (t) => {
  const { hub, peer } = await connected(t, { retry: { attempts: 2, baseDelayMs: 1 } });
  const call = rejection(hub.call("m", {}, { idempotent: true }));
  await peer.next();
  peer.error(1, 2001, { retryable: true, maybe_executed: true });
  await peer.next();
  peer.error(2, 2002, FULL);
  assert.equal(((await call) as RpcError).maybeExecuted, true);
});

test("a deadline spans all attempts", async (t) => {
  const pass = stoppedClock(t);
  const { hub, peer } = await connected(t, { retry: { attempts: 9, baseDelayMs: 1 } });
  const call = rejection(hub.call("m", {}, { timeoutMs: 20_000 }));
  await peer.next();
  peer.error(1, 2002, { ...FULL, retry_after_ms: 100 });
  await roundTrip(hub, peer);
  pass(100);
  const { id, metadata } = await peer.next();
  assert.equal(metadata?.timeout_ms, 19_900);
  peer.error(id, 2002, { ...FULL, retry_after_ms: 100_000 });
  assert.ok((await within("there is no time for another", call)) instanceof OverloadedError);
});

test("a hint that is longer than any call ends it", async (t) => {
  const { hub, peer } = await connected(t);
  const call = rejection(hub.call("m"));
  await peer.next();
  peer.error(1, 2002, { ...FULL, retry_after_ms: 300_000 });
  const error = await within("there is no time for another", call);
  assert.ok(error instanceof OverloadedError);
  assert.equal(error.retryAfterMs, 300_000);
});

test("the caller's own deadline is no reason to try again", async (t) => {
  const pass = stoppedClock(t);
  const { hub, peer } = await connected(t, { retry: { baseDelayMs: 1 } });
  const call = rejection(hub.call("m", {}, { timeoutMs: 50, idempotent: true }));
  await peer.next();
  pass(2_050);
  assert.ok((await call) instanceof TimeoutError);
  assert.equal((await peer.next()).method, "$/cancelRequest");
  pass(10_000);
  await roundTrip(hub, peer);
});

for (const end of ["abort", "close"] as const) {
  test(`${end} ends the wait for the next attempt`, async (t) => {
    const { hub, peer } = await connected(t);
    const controller = new AbortController();
    const { signal } = controller;
    const call = rejection(hub.call("m", {}, { signal, retry: { attempts: 2, baseDelayMs: 100_000 } }));
    await peer.next();
    peer.error(1, 2002, { ...FULL, retry_after_ms: 30_000 });
    await roundTrip(hub, peer);
    if (end === "abort") {
      controller.abort();
      assert.ok((await call) instanceof CancelledError);
    } else {
      await hub.close();
      assert.ok((await call) instanceof DisconnectedError);
    }
    assert.equal(getEventListeners(signal, "abort").length, 0);
  });
}

test("streams, and calls with input, are made once", async (t) => {
  const { hub, peer } = await connected(t, { retry: { baseDelayMs: 1 } });
  const stream = hub.stream("s");
  const call = rejection(hub.call("m", {}, { input: [] }));
  peer.error(1, 2002, FULL);
  peer.error(2, 2002, FULL);
  assert.ok((await rejection(stream.result)) instanceof OverloadedError);
  assert.ok((await call) instanceof OverloadedError);
});

for (const baseDelayMs of [0, Number.NaN]) {
  test(`baseDelayMs ${baseDelayMs} is a TypeError`, async (t) => {
    const { hub } = await connected(t);
    assert.ok((await rejection(hub.call("m", {}, { retry: { baseDelayMs } }))) instanceof TypeError);
  });
}
