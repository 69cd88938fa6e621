/**
 * Tasks over HTTP against a real hub, behind a front that refuses requests and loses answers.
 */
import assert from "node:assert/strict";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer, request, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { createTaskClient, TaskError, TaskTimeoutError, TaskUnavailableError } from "trunkline/tasks";
import { ownPort } from "./support/ports.js";
import { SKIP_WITHOUT_LAB, startHub, type RealHub } from "./support/real-hub.js";
import { stoppedClock, within } from "./support/time.js";

type Fault = "pass" | "lose" | "cut" | { readonly status: number; readonly headers?: Record<string, string>; readonly body?: object };

interface Tasks {
  readonly "speech/analyze": { readonly params: { text: string; marker: string }; readonly result: { runs: number; text: string } };
  readonly "ml/inference": { readonly params: { seconds: number }; readonly result: number };
}

const STARTING: Fault = {
  status: 503,
  headers: { "Retry-After": "0" },
  body: {
    error: { code: 1001, message: "executors are starting", data: { type: "WORKER_UNAVAILABLE", recovery: "retry", retryable: true, maybe_executed: false } },
  },
};

/** A server in front of the hub: each request meets the next fault; without any it passes. */
class Front {
  readonly faults: Fault[] = [];
  readonly keys: (string | undefined)[] = [];
  readonly server = createServer((incoming, answer) => {
    this.keys.push(incoming.headers["idempotency-key"] as string | undefined);
    this.#meet(this.faults.shift() ?? "pass", incoming, answer);
  });
  port = 0;

  get url(): string {
    return `http://127.0.0.1:${(this.server.address() as AddressInfo).port}`;
  }

  #meet(fault: Fault, incoming: IncomingMessage, answer: ServerResponse): void {
    if (fault === "cut") {
      incoming.socket.resetAndDestroy();
    } else if (typeof fault === "object") {
      answer.writeHead(fault.status, fault.headers).end(fault.body === undefined ? "" : JSON.stringify(fault.body));
    } else {
      const headers = { ...incoming.headers, host: `127.0.0.1:${this.port}` };
      const onward = request({ port: this.port, path: incoming.url, method: incoming.method, headers }, (reply) => {
        if (fault === "lose") {
          reply.resume().once("end", () => {
            incoming.socket.resetAndDestroy();
          });
        } else {
          answer.writeHead(reply.statusCode ?? 500, reply.headers);
          reply.pipe(answer);
        }
      });
      onward.on("error", () => incoming.socket.destroy());
      incoming.pipe(onward);
    }
  }
}

describe("tasks", { skip: SKIP_WITHOUT_LAB }, () => {
  const front = new Front();
  const folder = mkdtempSync(join(tmpdir(), "trunkline-tasks-"));
  let hub: RealHub;
  let number = 0;

  before(async () => {
    hub = await startHub({ methods: "tasks" });
    front.port = hub.port;
    await new Promise<void>((resolve) => {
      front.server.listen(0, "127.0.0.1", resolve);
    });
  });

  after(async () => {
    front.server.close();
    front.server.closeAllConnections();
    await hub.stop();
    rmSync(folder, { recursive: true });
  });

  /** A client for whom the faults lie ready, and a file that counts runs. */
  function prepared(...faults: Fault[]): { client: ReturnType<typeof createTaskClient<Tasks>>; params: { text: string; marker: string }; runs: () => number } {
    front.faults.splice(0, Infinity, ...faults);
    front.keys.length = 0;
    number += 1;
    const marker = join(folder, String(number));
    return {
      client: createTaskClient<Tasks>({ baseUrl: front.url, retry: { retryDelayMs: 1 } }),
      params: { text: "a", marker },
      runs: () => (existsSync(marker) ? readFileSync(marker, "utf8").length : 0),
    };
  }

  test("results come, at their paths", async () => {
    const { client, params } = prepared();
    assert.deepEqual(await client.analyzeSpeech(params), { runs: 1, text: "a" });
    assert.deepEqual(await client.run("speech/analyze", params), { runs: 2, text: "a" });
    assert.equal(await client.runInference({ seconds: 0 }), 0);
    const { status, ready } = await client.healthCheck();
    assert.deepEqual([status, ready], ["healthy", true]);
  });

  test("what was refused unread is tried again", async () => {
    const { client, params, runs } = prepared(STARTING, { status: 503 }, { status: 429, headers: { "Retry-After": "0" } });
    assert.equal((await client.analyzeSpeech(params)).runs, 1);
    assert.deepEqual([front.keys.length, runs()], [4, 1]);
  });

  test("an answer that is lost costs no second run: the key is the same", async () => {
    const { client, params, runs } = prepared("lose", "cut", "lose");
    assert.equal((await client.analyzeSpeech(params)).runs, 1);
    assert.deepEqual([front.keys.length, new Set(front.keys).size, runs()], [4, 1, 1]);
  });

  test("tasks have keys of their own", async () => {
    const { client, params, runs } = prepared();
    await client.analyzeSpeech(params);
    await client.analyzeSpeech(params);
    await client.analyzeSpeech(params, { idempotencyKey: "mine" });
    await client.analyzeSpeech(params, { idempotencyKey: "mine" });
    assert.deepEqual([new Set(front.keys).size, runs()], [3, 3]);
  });

  test("after a lost answer a hub that starts may be another one, which knows no key", async () => {
    const { client, params, runs } = prepared("lose", STARTING);
    await assert.rejects(client.analyzeSpeech(params), (error: unknown) => {
      assert.ok(error instanceof TaskUnavailableError);
      assert.deepEqual([error.status, error.errorName, error.maybeExecuted, error.attempts], [503, "WORKER_UNAVAILABLE", true, 2]);
      return true;
    });
    assert.equal(runs(), 1);
    const again = prepared("lose", STARTING);
    await again.client.analyzeSpeech(again.params, { idempotent: true });
    assert.equal(again.runs(), 1);
  });

  test("retries end", async () => {
    const { client, params, runs } = prepared(STARTING, STARTING, STARTING, STARTING, STARTING);
    await assert.rejects(client.analyzeSpeech(params), (error: unknown) => error instanceof TaskUnavailableError && error.attempts === 4);
    await assert.rejects(client.analyzeSpeech(params, { retry: { maxRetries: 0 } }), { attempts: 1, maybeExecuted: false });
    assert.equal(runs(), 0);
  });

  test("a pause that would outlast the deadline is none", async () => {
    const { client, params } = prepared({ status: 503, headers: { "Retry-After": "3600" } });
    await assert.rejects(client.analyzeSpeech(params), { name: "TaskUnavailableError", retryAfterMs: 3_600_000, attempts: 1 });
  });

  test("a slow method is 408, by the hub's word", async (t) => {
    // Only the hub's time passes.
    stoppedClock(t);
    const { client } = prepared();
    await assert.rejects(client.runInference({ seconds: 60 }, { timeoutMs: 200 }), (error: unknown) => {
      assert.ok(error instanceof TaskTimeoutError);
      assert.deepEqual([error.status, error.code, error.errorName, error.attempts], [408, 1002, "COMMUNICATION_TIMEOUT", 1]);
      return true;
    });
  });

  test("a hub that says nothing is 408, too", async (t) => {
    const pass = stoppedClock(t);
    const silent = createServer();
    const asked = new Promise((resolve) => {
      silent.once("request", resolve);
    });
    await new Promise<void>((resolve) => {
      silent.listen(0, "127.0.0.1", resolve);
    });
    const client = createTaskClient({ baseUrl: `http://127.0.0.1:${(silent.address() as AddressInfo).port}` });
    const running = client.run("any", {}, { timeoutMs: 1 });
    const failing = assert.rejects(running, { name: "TaskTimeoutError", status: 408, code: undefined, maybeExecuted: true });
    await within("it is asked", asked);
    pass(1_001);
    await within("the client gives up", failing);
    silent.close();
    silent.closeAllConnections();
  });

  test("nobody there is 503, and nothing ran", async () => {
    const port = await ownPort();
    const client = createTaskClient({ baseUrl: `http://127.0.0.1:${port}`, retry: { maxRetries: 1, retryDelayMs: 1 } });
    await assert.rejects(client.healthCheck(), { name: "TaskUnavailableError", status: 503, attempts: 2 });
    const message = `POST http://127.0.0.1:${port}/api/v1/any: no connection, nothing was sent: ECONNREFUSED`;
    await assert.rejects(client.run("any", {}), { name: "TaskUnavailableError", message, status: 503, maybeExecuted: false, attempts: 2 });
  });

  test("errors that do not pass are told at once", async () => {
    const { client } = prepared();
    await assert.rejects(client.run("speech/analyze", {} as never), (error: unknown) => {
      assert.ok(error instanceof TaskError);
      assert.deepEqual([error.name, error.status, error.code, error.errorName, error.attempts], ["TaskError", 422, -32602, "INVALID_PARAMS", 1]);
      return true;
    });
    await assert.rejects(client.run("speech/nothing" as never, {} as never), { status: 404, errorName: "METHOD_NOT_FOUND" });
  });

  test("a signal ends the attempt, and the pause", async () => {
    const { client, params } = prepared();
    const reason = new Error("enough");
    await assert.rejects(client.analyzeSpeech(params, { signal: AbortSignal.abort(reason) }), { name: "TaskCancelledError", cause: reason, maybeExecuted: false });
    const abort = new AbortController();
    const running = client.runInference({ seconds: 60 }, { signal: abort.signal });
    abort.abort(reason);
    await assert.rejects(running, { name: "TaskCancelledError", status: 499, cause: reason });
    const paused = prepared(STARTING);
    const meanwhile = new AbortController();
    front.server.once("request", () => setImmediate(() => { meanwhile.abort(reason); }));
    await assert.rejects(paused.client.analyzeSpeech(paused.params, { signal: meanwhile.signal, retry: { retryDelayMs: 20_000 } }), { cause: reason });
  });

  test("bytes go there and back as Uint8Array", async () => {
    const client = createTaskClient({ baseUrl: front.url });
    const bytes = Uint8Array.from({ length: 300 }, (_, index) => index % 256);
    assert.deepEqual(await client.run("bytes/reverse", { data: bytes }), bytes.toReversed());
    assert.deepEqual(await client.run("bytes/reverse", { data: bytes.buffer }), bytes.toReversed());
    assert.deepEqual(await client.run("debug/echo", { value: [{ deep: Buffer.from([0, 255]) }] }), [{ deep: new Uint8Array([0, 255]) }]);
  });

  test("options that make no sense are refused", () => {
    assert.throws(() => createTaskClient({ baseUrl: "ws://a" }), /no http/u);
    assert.throws(() => createTaskClient({ baseUrl: "http://a", timeoutMs: 0 }), /timeoutMs/u);
    assert.throws(() => createTaskClient({ baseUrl: "http://a", retry: { maxRetries: Number.NaN } }), /maxRetries/u);
    assert.throws(() => createTaskClient({ baseUrl: "http://a", retry: { backoffMultiplier: 0.5 } }), /backoffMultiplier/u);
  });
});

/** A client whose requests meet `answer`, and how many there were. */
function faked(answer: () => Response | Error): { client: ReturnType<typeof createTaskClient>; sent: () => number } {
  let count = 0;
  const fake = (): Promise<Response> => {
    count += 1;
    const given = answer();
    return given instanceof Error ? Promise.reject(given) : Promise.resolve(given);
  };
  return { client: createTaskClient({ baseUrl: "http://hub", fetch: fake, retry: { maxRetries: 2, retryDelayMs: 0 } }), sent: () => count };
}

describe("params that JSON would change are refused by their path, and nothing is sent", () => {
  const loop: { self?: object } = {};
  loop.self = loop;
  const cases: readonly (readonly [object, RegExp])[] = [
    [{ v: Number.NaN }, /^params\.v is NaN: send a string$/u],
    [{ v: [0, Infinity] }, /^params\.v\.1 is Infinity: send a string$/u],
    [{ v: -Infinity }, /^params\.v is -Infinity: send a string$/u],
    [{ v: 2 ** 60 }, /^params\.v is 1152921504606847000: send a string$/u],
    [{ v: 1n }, /^params\.v is a BigInt: send a string$/u],
    [{ v: { w: new Map([[1, 2]]) } }, /^params\.v\.w is a Map, which has no form in JSON$/u],
    [{ v: new Set([1]) }, /^params\.v is a Set, which has no form in JSON$/u],
    [{ v: new Float32Array(2) }, /^params\.v is no Uint8Array$/u],
    [{ v: new DataView(new ArrayBuffer(1)) }, /^params\.v is no Uint8Array$/u],
    [{ v: new Error("x") }, /^params\.v is a Error, which has no form in JSON$/u],
    [{ v: [undefined] }, /^params\.v\.0 is undefined: send null$/u],
    [{ v: () => 1 }, /^params\.v is a function$/u],
    [{ v: "\uD800" }, /^params\.v has a lone surrogate$/u],
    [new Map([["v", 1]]), /^params is a Map, which has no form in JSON$/u],
    [loop, /circular/u],
  ];
  for (const [params, message] of cases) {
    test(message.source, async () => {
      const { client, sent } = faked(() => Response.json(null));
      await assert.rejects(client.run("any", params), { name: "TypeError", message });
      await assert.rejects(client.runInference(params), { name: "TypeError", message });
      assert.equal(sent(), 0);
    });
  }
});

function failed(cause: unknown): Error {
  return new TypeError("fetch failed", { cause });
}

function system(code: string, syscall = ""): Error {
  return Object.assign(new Error(code), { code, syscall });
}

describe("no answer", () => {
  for (const [code, cause] of [
    ["ECONNREFUSED", system("ECONNREFUSED")],
    ["ENOTFOUND", system("ENOTFOUND")],
    ["EAI_AGAIN", system("EAI_AGAIN")],
    ["EHOSTUNREACH", system("EHOSTUNREACH", "connect")],
    ["ECONNREFUSED", new AggregateError([system("ECONNREFUSED"), system("ETIMEDOUT", "connect")])],
  ] as const) {
    test(`${cause.constructor.name} ${code}: nothing was sent, and it is tried again`, async () => {
      const { client, sent } = faked(() => failed(cause));
      const message = `POST http://hub/api/v1/any: no connection, nothing was sent: ${code}`;
      await assert.rejects(client.run("any", {}), { name: "TaskUnavailableError", message, status: 503, maybeExecuted: false, attempts: 3 });
      assert.equal(sent(), 3);
    });
  }

  for (const cause of [system("ECONNRESET", "read"), system("ETIMEDOUT", "read"), new AggregateError([system("ECONNREFUSED"), system("ECONNRESET")]), undefined]) {
    test(`${String(cause)}: the answer may be lost`, async () => {
      const { client } = faked(() => failed(cause));
      const message = "POST http://hub/api/v1/any: the answer was lost";
      await assert.rejects(client.run("any", {}), { name: "TaskUnavailableError", message, maybeExecuted: true, attempts: 3 });
    });
  }

  test("a port that fetch does not ask is no lost answer, and not tried again", async () => {
    const client = createTaskClient({ baseUrl: "http://127.0.0.1:1" });
    const message = "POST http://127.0.0.1:1/api/v1/any: no connection, nothing was sent: bad port";
    await assert.rejects(client.run("any", {}), { name: "TaskUnavailableError", message, maybeExecuted: false, retryable: false, attempts: 1 });
  });
});

test("options that are none are refused by name, and nothing is sent", async () => {
  const given: object = { baseURL: "http://hub" };
  assert.throws(() => createTaskClient(given as { baseUrl: string }), { name: "TypeError", message: /^unknown option baseURL: there are baseUrl, /u });
  const misspelt: object = { retries: 1 };
  assert.throws(() => createTaskClient({ baseUrl: "http://hub", retry: misspelt }), { name: "TypeError", message: /^unknown option retries: /u });
  const { client, sent } = faked(() => Response.json(null));
  const late: object = { timeoutms: 1 };
  for (const running of [client.run("any", {}, late), client.analyzeSpeech({}, late), client.runInference({}, late), client.healthCheck(late)]) {
    await assert.rejects(running, { name: "TypeError", message: /^unknown option timeoutms: there are timeoutMs, /u });
  }
  await assert.rejects(client.run("any", {}, { retry: misspelt }), { name: "TypeError", message: /^unknown option retries: /u });
  assert.equal(sent(), 0);
});
