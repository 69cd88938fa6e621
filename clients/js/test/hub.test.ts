/**
 * This client against the real hub.
 */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { CancelledError, connect, isHubError, RpcError, TimeoutError, type Hub } from "../src/index.js";
import { SKIP_WITHOUT_HUB, startHub, type RealHub } from "./support/real-hub.js";
import { rejection } from "./support/scripted.js";
import { PATIENCE, stoppedClock, within } from "./support/time.js";

describe("against the real hub", { skip: SKIP_WITHOUT_HUB }, () => {
  let real: RealHub;
  let hub: Hub;
  const warnings: string[] = [];

  before(async () => {
    real = await startHub();
    hub = await connect(real.url, {
      onWarning: (message) => {
        warnings.push(message);
      },
    });
    await ready(hub);
  });

  after(async () => {
    await hub.close();
    await real.stop();
    assert.deepEqual(warnings, []);
  });

  const VALUES = ["naïve 🎉", 0, -1.5, true, null, [], [1, [2]], { deep: [{ er: null }] }, "x".repeat(100_000)];

  test("echo gives every JSON value back unchanged", async () => {
    for (const value of VALUES) {
      assert.deepEqual(await hub.call("debug.echo", { value }), value);
    }
  });

  test("many calls at once find their own reply", async () => {
    const numbers = Array.from({ length: 500 }, (_, n) => n);
    const replies = await Promise.all(numbers.map((value) => hub.call<number>("debug.echo", { value })));
    assert.deepEqual(replies, numbers);
  });

  test("a stream has all its chunks, in order", async () => {
    const stream = hub.stream("debug.count", { n: 50, interval_ms: 0, size: 10 });
    const indices = [];
    for await (const { index, type } of stream) {
      assert.equal(typeof type, "string");
      indices.push(index);
    }
    assert.deepEqual(
      indices,
      Array.from({ length: 50 }, (_, n) => n),
    );
    await stream.result;
  });

  test("a stream that fails gives its chunks first", async () => {
    const indices: number[] = [];
    const loop = async (): Promise<void> => {
      for await (const { index } of hub.stream("debug.count", { n: 9, fail_at: 3 })) {
        indices.push(index);
      }
    };
    const error = await rejection(loop());
    assert.ok(error instanceof RpcError);
    assert.deepEqual([error.errorName, (error.data as { chunks: unknown }).chunks], ["PIPELINE_EXECUTION_ERROR", 3]);
    assert.deepEqual(indices, [0, 1, 2]);
  });

  test("leaving a stream frees the executor", async () => {
    for await (const { index } of hub.stream("debug.count", { n: 100_000, interval_ms: 20, size: 10 })) {
      if (index === 2) {
        break;
      }
    }
    await within("the only executor is not busy with a stream nobody reads", hub.call("debug.echo", { value: 1 }));
  });

  test("an abort cancels, and the next call is answered", async () => {
    const controller = new AbortController();
    const call = hub.call("debug.sleep", { seconds: 60 }, { signal: controller.signal });
    // When this is answered, what went before it has arrived.
    await hub.call("rpc.ping");
    controller.abort();
    assert.ok((await rejection(call)) instanceof CancelledError);
    assert.equal(await hub.call("rpc.ping").then(() => "pong"), "pong");
  });

  test("the hub answers a passed deadline by itself", async (t) => {
    // Only the hub's time passes: the client's own guard, two seconds later, cannot come before it.
    stoppedClock(t);
    await using client = await connect(real.url);
    const error = await rejection(client.call("debug.sleep", { seconds: 60 }, { timeoutMs: 200 }));
    assert.ok(error instanceof TimeoutError);
    assert.equal(error.recovery, "retry");
    assert.doesNotMatch(error.message, /^no answer within/u, "the answer came from the local guard");
  });

  test("an unknown method is METHOD_NOT_FOUND, and was not executed", async () => {
    const error = await rejection(hub.call("no.such.method"));
    assert.ok(error instanceof RpcError);
    assert.deepEqual([error.errorName, error.maybeExecuted], ["METHOD_NOT_FOUND", false]);
  });

  test("wrong params are INVALID_PARAMS", async () => {
    const error = await rejection(hub.call("debug.sleep", { seconds: "long" }));
    assert.ok(error instanceof RpcError);
    assert.equal(error.errorName, "INVALID_PARAMS");
  });

  test("a method's exception arrives by its type, and the id of its text in the log", async () => {
    const error = await rejection(hub.call("debug.fail", { message: "as asked" }));
    assert.ok(error instanceof RpcError);
    assert.match(error.message, /RuntimeError \(id [0-9a-f]+\)$/u);
    assert.equal(error.maybeExecuted, true);
  });

  test("a crash is WORKER_CRASHED, and the hub recovers in another process", async () => {
    const { pid } = await hub.call<{ pid: number }>("debug.pid", {});
    const error = await rejection(hub.call("debug.crash", { signal: "SIGKILL" }));
    assert.ok(error instanceof RpcError);
    assert.deepEqual([error.errorName, error.maybeExecuted], ["WORKER_CRASHED", true]);
    await ready(hub);
    assert.notEqual((await hub.call<{ pid: number }>("debug.pid", {})).pid, pid);
  });
});

/** Waits until an executor answers. */
async function ready(hub: Hub): Promise<void> {
  const giveUp = performance.now() + PATIENCE;
  for (;;) {
    try {
      await hub.call("debug.echo", { value: "ready?" });
      return;
    } catch (error) {
      const mayComeBack = isHubError(error) && "retryable" in error && error.retryable;
      if (!mayComeBack || performance.now() > giveUp) {
        throw error;
      }
      await sleep(100);
    }
  }
}
