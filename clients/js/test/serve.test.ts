/**
 * Methods that this client serves, through the real hub.
 */
import assert from "node:assert/strict";
import { once } from "node:events";
import { after, before, describe, test, type TestContext } from "node:test";
import { connect, RpcError, type ConnectOptions, type Hub, type ServedCall } from "../src/index.js";
import { Proxy } from "./support/proxy.js";
import { SKIP_WITHOUT_HUB, startHub, type RealHub } from "./support/real-hub.js";
import { Watched } from "./support/resilient.js";
import { rejection } from "./support/scripted.js";
import { PATIENCE, pause, settled, until, within } from "./support/time.js";

async function* count({ n }: { n: number }, call: ServedCall): AsyncGenerator<number, object> {
  call.progress("begun");
  for (let index = 0; index < n; index += 1) {
    yield index;
  }
  return { counted: n };
}

describe("served methods", { skip: SKIP_WITHOUT_HUB }, () => {
  let real: RealHub;
  let caller: Hub;

  before(async () => {
    real = await startHub({ env: { TRUNKLINE_CALLEE_GRACE: "60" } });
    caller = await connect(real.url, { retry: false });
  });

  after(async () => {
    await caller.close();
    await real.stop();
  });

  async function callee(t: TestContext, options?: ConnectOptions): Promise<Hub> {
    const hub = await connect(real.url, options);
    t.after(() => hub.close());
    return hub;
  }

  test("params in, result out, undefined is null; metadata and what is left of the time", async (t) => {
    const hub = await callee(t);
    let told: ServedCall | undefined;
    await hub.register("node.double", ({ n }: { n: number }, call) => {
      told = call;
      return n * 2;
    });
    await hub.register("node.nothing", async () => {});
    const metadata = { traceparent: "00-x", principal: { name: "root" } };
    assert.equal(await caller.call("node.double", { n: 21 }, { timeoutMs: PATIENCE, metadata }), 42);
    assert.equal(told?.metadata.traceparent, "00-x");
    assert.ok(Number(told?.metadata.timeout_ms) <= PATIENCE);
    const { roles = [], ...who } = told?.principal ?? {};
    assert.deepEqual(who, { name: "anonymous", tenant: "default", claims: {} }, "the hub says it, no caller");
    assert.ok(roles.includes("callee"));
    assert.equal(await caller.call("node.nothing"), null);
    assert.equal(await caller.call("debug.call", { method: "node.double", params: { n: 1 } }), 2, "from an executor");
  });

  test("errors: RpcErrors as they are, others by name and id, what JSON lacks as SERIALIZATION_ERROR", async (t) => {
    const hub = await callee(t);
    const outcomes: Record<string, () => unknown> = {
      rpc: () => {
        throw new RpcError({ code: 4321, message: "no", data: { detail: 1 } });
      },
      plain: () => Promise.reject(new RangeError("too far")),
      nan: () => ({ score: Number.NaN }),
      data: () => {
        throw new RpcError({ code: 4321, message: "no", data: { big: 10n } });
      },
    };
    await hub.register("node.fails", ({ how }: { how: string }) => outcomes[how]?.());
    const errors: RpcError[] = [];
    for (const how of Object.keys(outcomes)) {
      const error = await rejection(caller.call("node.fails", { how }));
      assert.ok(error instanceof RpcError);
      errors.push(error);
    }
    assert.deepEqual(errors.map(({ code }) => code), [4321, -32603, 1003, 1003]);
    assert.deepEqual((errors[0]?.data as { detail?: number } | undefined)?.detail, 1);
    assert.match(errors[1]?.message ?? "", /^failed: RangeError \(id h:[^ ]+\)$/u);
    assert.match((errors[1]?.data as { error_id?: string } | undefined)?.error_id ?? "", /^h:/u);
    assert.match(errors[2]?.message ?? "", /result\.score is NaN/u);
  });

  test("what has no form in JSON is answered at once, and its slot is free", async (t) => {
    const hub = await callee(t);
    const circle: { self?: unknown } = {};
    circle.self = circle;
    const results: Record<string, () => unknown> = {
      function: () => () => 1,
      symbol: () => Symbol("s"),
      bigint: () => Promise.resolve(10n),
      circle: () => circle,
      left_out: () => ({ toJSON: () => undefined }),
      throwing: () => ({
        toJSON: () => {
          throw new Error("half of \uD83D");
        },
      }),
    };
    await hub.register("node.formless", ({ how }: { how: string }) => results[how]?.(), { maxConcurrency: 1 });
    await hub.register(
      "node.formless.chunks",
      async function* one({ how }: { how: string }) {
        yield results[how]?.();
      },
      { maxConcurrency: 1, streaming: true },
    );
    await hub.register("node.formless.progress", ({ how }: { how: string }, call) => {
      call.progress(results[how]?.());
    });
    for (const how of ["function", "symbol", "circle", "left_out", "throwing", "bigint"]) {
      const streamed = caller.stream("node.formless.chunks", { how }).result;
      const calls = [caller.call("node.formless", { how }, { timeoutMs: 60_000 }), streamed];
      if (how !== "bigint") {
        calls.push(caller.call("node.formless.progress", { how }, { onProgress: () => {} }));
      }
      for (const error of await Promise.all(calls.map((call) => within(how, rejection(call))))) {
        assert.ok(error instanceof RpcError);
        assert.equal(error.errorName, "SERIALIZATION_ERROR", how);
      }
    }
  });

  test("streams, their summary, and progress", async (t) => {
    const hub = await callee(t);
    await hub.register("node.count", count, { streaming: true });
    const progress: unknown[] = [];
    const stream = caller.stream<number>("node.count", { n: 1_000 }, { onProgress: (value) => progress.push(value) });
    const seen: number[] = [];
    for await (const { data } of stream) {
      seen.push(data);
    }
    assert.deepEqual(seen, Array.from({ length: 1_000 }, (_, n) => n));
    assert.deepEqual(await stream.result, { counted: 1_000 });
    assert.deepEqual(progress, ["begun"]);
  });

  test("a handler runs no further ahead of a slow reader than the windows", async (t) => {
    const hub = await callee(t);
    let produced = 0;
    let isClosed = false;
    await hub.register(
      "node.endless",
      async function* endless() {
        try {
          for (;;) {
            yield produced;
            produced += 1;
          }
        } finally {
          isClosed = true;
        }
      },
      { streaming: true },
    );
    const stream = caller.stream("node.endless", {}, { window: { items: 10 } });
    const iterator = stream[Symbol.asyncIterator]();
    await iterator.next();
    assert.ok((await settled(() => produced, 600)) < 600, `${produced} chunks`);
    await iterator.return?.();
    await within("the generator is closed", until(() => isClosed));
  });

  test("a chunk JSON cannot carry ends the stream and closes its generator", async (t) => {
    const hub = await callee(t);
    let isClosed = false;
    await hub.register(
      "node.broken",
      async function* broken() {
        try {
          yield 1;
          yield { n: 10n };
        } finally {
          isClosed = true;
        }
      },
      { streaming: true },
    );
    const error = await rejection(caller.stream("node.broken").result);
    assert.ok(error instanceof RpcError);
    assert.equal(error.errorName, "SERIALIZATION_ERROR");
    assert.equal(isClosed, true);
  });

  test("cancelling reaches the handler, and its outcome nobody", async (t) => {
    const hub = await callee(t);
    const told = { running: 0, aborted: 0 };
    await hub.register("node.wait", async (_params, { signal }) => {
      told.running += 1;
      await once(signal, "abort");
      told.aborted += 1;
      return "too late";
    });
    const controller = new AbortController();
    const call = Promise.allSettled([caller.call("node.wait", {}, { signal: controller.signal })]);
    await within("it runs", until(() => told.running === 1));
    // A deadline that passes before the call has begun reaches no handler, and one that is told late may have another one tried.
    for (let timeoutMs = 200; told.running < 2; timeoutMs *= 2) {
      await Promise.allSettled([caller.call("node.wait", {}, { timeoutMs })]);
    }
    controller.abort();
    await call;
    await within("all are told", until(() => told.aborted === told.running));
    assert.equal(await caller.call("debug.echo", { value: 1 }), 1);
  });

  test("several callees share the work, and leave it", async (t) => {
    const counts = [0, 0];
    const hubs = [await callee(t), await callee(t)];
    const registrations = [];
    for (const [index, hub] of hubs.entries()) {
      registrations.push(
        await hub.register(
          "node.shared",
          async () => {
            counts[index] = (counts[index] ?? 0) + 1;
            await pause(20);
            return index;
          },
          { maxConcurrency: 2, idempotent: true, summary: "Shared" },
        ),
      );
    }
    await Promise.all(Array.from({ length: 20 }, () => caller.call("node.shared")));
    assert.ok(counts.every((calls) => calls > 0), counts.join());
    await registrations[0]?.unregister();
    await registrations[0]?.unregister();
    assert.equal(await caller.call("node.shared"), 1);
    await registrations[1]?.[Symbol.asyncDispose]();
    const error = await rejection(caller.call("node.shared"));
    assert.ok(error instanceof RpcError);
    assert.equal(error.errorName, "METHOD_NOT_FOUND");
  });

  test("one that drains resolves when its calls have ended; what comes meanwhile waits for its successor", async (t) => {
    const [first, second] = [await callee(t), await callee(t)];
    const finish = new AbortController();
    let calls = 0;
    const registration = await first.register("node.drained", async () => {
      calls += 1;
      await once(finish.signal, "abort");
      return "first";
    });
    const running = caller.call("node.drained");
    await within("it runs", until(() => calls === 1));
    const order: string[] = [];
    async function drain(): Promise<void> {
      await registration.unregister({ drain: true, timeoutMs: PATIENCE });
      order.push("drained");
    }
    const drained = drain();
    // Once this is answered the hub has been told that it drains; once the next one is, the late call is there.
    await first.call("rpc.ping");
    const late = caller.call("node.drained");
    await caller.call("rpc.ping");
    order.push("finish");
    finish.abort();
    assert.equal(await running, "first");
    await within("the end of the drain", drained);
    assert.deepEqual(order, ["finish", "drained"]);
    await second.register("node.drained", () => "second");
    assert.equal(await within("the late call", late), "second");
  });

  test("registered again while it is unregistered", async (t) => {
    const hub = await callee(t);
    const registration = await hub.register("node.again", () => 1);
    void registration.unregister();
    await hub.register("node.again", () => 2);
    assert.equal(await caller.call("node.again"), 2);
  });

  test("names that cannot be served, and twice the same", async (t) => {
    const hub = await callee(t);
    for (const name of ["rpc.mine", "system.info", "system.status", "subscribe", "event"]) {
      const error = await rejection(hub.register(name, () => 1));
      assert.ok(error instanceof RpcError);
      assert.equal(error.errorName, "FORBIDDEN");
      assert.match(error.message, /register another name/u);
    }
    await hub.register("node.once", () => 1);
    assert.ok((await rejection(hub.register("node.once", () => 2))) instanceof TypeError);
  });

  test("a cut goes unnoticed with a session; without one the call is lost and the method comes back", async (t) => {
    for (const session of [true, false]) {
      const proxy = await Proxy.start(real.port);
      const { hub, ...watched } = await Watched.connect(proxy.url, { session });
      t.after(async () => {
        await hub.close();
        proxy.stop();
      });
      let begun = 0;
      let aborted = 0;
      await hub.register(`node.cut.${session}`, async (_params, { signal }) => {
        begun += 1;
        signal.addEventListener("abort", () => {
          aborted += 1;
        });
        await pause(200);
        return "done";
      });
      const call = caller.call(`node.cut.${session}`);
      const outcome = Promise.allSettled([call]);
      await within("it runs", until(() => begun === 1));
      proxy.cut();
      const [result] = await outcome;
      assert.equal(result?.status, session ? "fulfilled" : "rejected");
      await within("the handler hears of it", until(() => aborted === (session ? 0 : 1)));
      await within("it is served again", served(`node.cut.${session}`));
      assert.equal(watched.states.at(-1)?.state, "connected");
    }
  });

  async function served(method: string): Promise<void> {
    for (;;) {
      try {
        assert.equal(await caller.call(method), "done");
        return;
      } catch (error) {
        if (!(error instanceof RpcError)) {
          throw error;
        }
        await pause(20);
      }
    }
  }
});
