/**
 * Messages that are larger than the hub takes: each fails its own call, and nothing else.
 */
import assert from "node:assert/strict";
import { after, before, describe, test, type TestContext } from "node:test";
import { connect, RpcError, type CallOptions, type Hub } from "../src/index.js";
import { SKIP_WITHOUT_HUB, startHub, type RealHub } from "./support/real-hub.js";
import { Watched } from "./support/resilient.js";
import { listen, rejection, type Peer } from "./support/scripted.js";
import { within } from "./support/time.js";

const LIMIT = 20_000;
const LARGE = "ü".repeat(LIMIT);

const WAYS: Readonly<Record<string, (hub: Hub) => unknown>> = {
  call: (hub) => hub.call("debug.echo", { value: LARGE }, { idempotent: true }),
  metadata: (hub) => hub.call("debug.echo", {}, { metadata: { mine: LARGE } }),
  publish: (hub) => hub.publish("large", LARGE),
  stream: (hub) => hub.stream("debug.count", { n: 1, large: LARGE }).result,
  subscribe: (hub) => hub.subscribe(LARGE),
  input: (hub) => hub.call("debug.sleep", { seconds: 5 }, { input: [1, LARGE] }),
  // oxlint-disable-next-line require-await -- what it throws rejects
  notify: async (hub) => {
    hub.notify("debug.echo", { value: LARGE });
  },
};

const HANDLERS: Readonly<Record<string, (params: unknown, call: { progress: (value: unknown) => void }) => unknown>> = {
  returns: () => LARGE,
  throws: () => {
    throw new RpcError({ code: 1, message: "mine", data: LARGE });
  },
  yields: async function* () {
    yield "small";
    yield LARGE;
  },
  reports: (_params, { progress }) => {
    progress(LARGE);
  },
};

function refused(error: unknown): void {
  assert.ok(error instanceof RpcError, String(error));
  assert.deepEqual([error.code, error.errorName, error.maybeExecuted], [-32600, "INVALID_REQUEST", false]);
  assert.match(error.message, /\d{5} bytes .*too large/u);
}

describe("a hub that takes 20,000 bytes", { skip: SKIP_WITHOUT_HUB }, () => {
  let narrow: RealHub;
  before(async () => {
    narrow = await startHub({ env: { TRUNKLINE_MAX_MESSAGE_BYTES: String(LIMIT) } });
  });
  after(() => narrow.stop());

  async function watched(t: TestContext): Promise<Watched> {
    const client = await Watched.connect(narrow.url);
    t.after(() => client.hub.close());
    return client;
  }

  for (const [way, send] of Object.entries(WAYS)) {
    test(`${way}: refused here, and nobody notices`, async (t) => {
      const { hub, states } = await watched(t);
      const other = hub.call<{ slept: number }>("debug.sleep", { seconds: 0.2 });
      refused(await rejection(send(hub) as Promise<unknown>));
      assert.equal((await other).slept, 0.2);
      assert.deepEqual(states, []);
    });
  }

  test("what just fits is sent, counted in bytes", async (t) => {
    const { hub } = await watched(t);
    for (const value of ["x".repeat(LIMIT - 150), "ü".repeat(LIMIT / 2 - 75)]) {
      assert.equal(await hub.call("debug.echo", { value }), value);
      refused(await rejection(hub.call("debug.echo", { value: value + "x".repeat(150) })));
    }
  });

  for (const [what, handler] of Object.entries(HANDLERS)) {
    test(`a handler that ${what} too much: 1003 for its caller`, async (t) => {
      const callee = await watched(t);
      const { hub } = await watched(t);
      await callee.hub.register(`large.${what}`, handler, { streaming: what === "yields" });
      const options: CallOptions = { onProgress: () => undefined };
      const done = what === "yields" ? hub.stream(`large.${what}`).result : hub.call(`large.${what}`, {}, options);
      const error = await rejection(done);
      assert.ok(error instanceof RpcError, String(error));
      assert.equal(error.code, 1003);
      assert.match(error.message, /bytes/u);
      assert.equal(await callee.hub.call("debug.echo", { value: 1 }), 1);
      assert.deepEqual(callee.states, []);
    });
  }
});

/** Answers `session.open` as an older hub does, which tells no limits. */
async function answered(peer: Peer, resumed: boolean, received = 0): Promise<Peer> {
  const { id, method } = await peer.next();
  assert.equal(method, "session.open");
  peer.result(id, { session: "s", resumed, received, ttl_ms: 60_000 });
  return peer;
}

/** A session of such a hub. */
async function old(t: TestContext): Promise<{ client: Watched; peer: Peer; resumed: (received: number) => Promise<Peer> }> {
  const { url, accept } = await listen(t);
  const first = (async () => answered(await accept(), false))();
  const [client, peer] = await Promise.all([Watched.connect(url), first]);
  t.after(() => client.hub.close());
  return { client, peer, resumed: async (received) => answered(await accept(), true, received) };
}

test("what an older hub closed 1009 for is never sent again; what was behind it is, in order", async (t) => {
  const { client, peer, resumed } = await old(t);
  const { hub } = client;
  const calls = [hub.call("a"), hub.call("large", { value: LARGE }), hub.call("b")];
  const [a, large, b] = [await peer.next(), await peer.next(), await peer.next()];
  assert.deepEqual([a, large, b].map((message) => message.method), ["a", "large", "b"]);
  peer.close(1009, "too large");
  refused(await rejection(calls[1] as Promise<unknown>));
  const second = await resumed(1);
  const rest = [await second.next(), await second.next()] as (typeof a & { seq: number })[];
  assert.deepEqual(rest.map(({ seq, method }) => [seq, method]), [[2, "$/cancelRequest"], [3, "b"]]);
  second.result(a.id, 1);
  second.result(b.id, 2);
  assert.deepEqual([await calls[0], await calls[2]], [1, 2]);
  refused(await rejection(hub.call("large", { value: LARGE })));
  assert.deepEqual(client.story, ["try 1", "resumed"]);
});

test("so is the answer of a served method: its caller is told instead", async (t) => {
  const { client, peer, resumed } = await old(t);
  const registering = client.hub.register("mine", () => LARGE);
  peer.result((await peer.next()).id, { method: "mine", callees: 1 });
  await registering;
  peer.send({ seq: 1, id: "h:1", method: "mine", params: {} });
  assert.equal((await peer.next()).id, "h:1");
  peer.close(1009, "too large");
  const second = await resumed(1);
  const answer = await second.next();
  assert.equal(answer.id, "h:1");
  assert.equal((answer.error as { code: number }).code, 1003);
});

test("without a session the longest call fails typed, and is not made again", async (t) => {
  const { url, accept } = await listen(t);
  const [client, peer] = await Promise.all([Watched.connect(url, { session: false }), accept()]);
  t.after(() => client.hub.close());
  const call = rejection(client.hub.call("large", { value: LARGE }, { idempotent: true }));
  await peer.next();
  peer.close(1009, "too large");
  refused(await call);
  const second = await within("another connection", accept());
  const next = client.hub.call("b");
  const { id, method } = await second.next();
  assert.equal(method, "b");
  second.result(id, 1);
  await next;
});

test("a subscription that is too long is not asked for again", async (t) => {
  const { client, peer, resumed } = await old(t);
  const call = client.hub.call("a");
  await peer.next();
  const subscribing = rejection(client.hub.subscribe(LARGE));
  await peer.next();
  peer.close(1009, "too large");
  refused(await subscribing);
  const second = await resumed(0);
  const { id, method } = await second.next();
  assert.equal(method, "a");
  second.result(id, 1);
  await call;
});

test("limits come with a ping, too", async (t) => {
  const { url, accept } = await listen(t);
  const options = { session: false, pingIntervalMs: 1 };
  const [hub, peer] = await Promise.all([connect(url, options), accept()]);
  t.after(() => hub.close());
  const { id, method } = await peer.next();
  assert.equal(method, "rpc.ping");
  peer.result(id, { pong: true, time_ms: 1, limits: { max_message_bytes: LIMIT, max_depth: 128, max_batch: 100 } });
  for (let error: unknown; error === undefined; ) {
    error = await Promise.race([rejection(hub.call("large", { value: LARGE })), peer.next().then(() => undefined)]);
    if (error !== undefined) {
      refused(error);
    }
  }
});
