/**
 * Connections that do not come about: what is told, what is tried again, and what ends it.
 */
import assert from "node:assert/strict";
import { createServer as createHttpServer } from "node:http";
import { test, type TestContext } from "node:test";
import { WebSocket } from "ws";
import {
  AuthenticationError,
  CancelledError,
  connect,
  ConnectError,
  createClient,
  DisconnectedError,
  type ConnectionState,
} from "../src/index.js";
import { pauseMs } from "../src/redial.js";
import { PlainSocket } from "./support/plain-socket.js";
import { ownPort } from "./support/ports.js";
import { connected, listen, ONE_CONNECTION, refusal, rejection, roundTrip, serve, serveBare } from "./support/scripted.js";
import { EARLY_MS, stoppedClock, until, within } from "./support/time.js";

const WORDS = "the token is not valid";
const REFUSAL = {
  code: 6001,
  message: WORDS,
  data: { type: "UNAUTHENTICATED", recovery: "fatal", retryable: false, maybe_executed: false },
};
const JSON_ALONE = { subprotocol: "trunkline.v1+json" };
const SOON = { minDelayMs: 5, maxDelayMs: 20 };

/** A hub that refuses by HTTP, with a body. */
function refusingByHttp(t: TestContext, status: string, body: string): Promise<string> {
  const server = createHttpServer();
  server.on("upgrade", (_request, socket) => {
    socket.end(`HTTP/1.1 ${status}\r\nContent-Length: ${Buffer.byteLength(body)}\r\nConnection: close\r\n\r\n${body}`);
  });
  return serveBare(t, server);
}

/** A hub that accepts, says why not, and closes, as long as `isRefusing`; how often it was asked. */
async function refusingByClose(
  t: TestContext,
  { code = 4501, isRefusing = (_attempt: number): boolean => true } = {},
): Promise<{ url: string; attempts: string[] }> {
  const attempts: string[] = [];
  const url = await serve(
    t,
    (socket, { headers }) => {
      attempts.push(headers["sec-websocket-protocol"] ?? "");
      if (isRefusing(attempts.length)) {
        socket.send(JSON.stringify({ jsonrpc: "2.0", id: null, error: REFUSAL }));
        socket.close(code, WORDS);
      }
    },
    JSON_ALONE,
  );
  return { url, attempts };
}

function signedOut(): string {
  throw new AuthenticationError("signed out");
}

function providerIsDown(): string {
  throw new Error("the id provider is down");
}

test("by HTTP: status, code, name and words are the hub's own", async (t) => {
  const url = await refusingByHttp(t, "403 Forbidden", JSON.stringify({ jsonrpc: "2.0", id: null, error: REFUSAL }));
  const error = await refusal(connect(url, { WebSocket }));
  assert.deepEqual([error.status, error.code, error.errorName, error.retryable], [403, 6001, "UNAUTHENTICATED", false]);
  assert.ok(error.message.endsWith(`/ws: HTTP 403: ${WORDS}`), error.message);
  assert.match(error.stack ?? "", /refusals\.test/u, "who waits for it is in its stack");
});

test("by HTTP without a word of the hub: a proxy's status and the begin of its page", async (t) => {
  const url = await refusingByHttp(t, "502 Bad Gateway", `<html>no backend ${"x".repeat(100_000)}`);
  const error = await refusal(connect(url, { WebSocket }));
  assert.deepEqual([error.status, error.code, error.retryable], [502, undefined, true]);
  assert.match(error.message, /HTTP 502: <html>no backend x{1,200}$/u);
});

test("by a message and a close, where nobody sees HTTP: the same", async (t) => {
  const { url, attempts } = await refusingByClose(t);
  const error = await refusal(connect(url, { WebSocket: PlainSocket }));
  assert.deepEqual([error.status, error.code, error.errorName], [undefined, 6001, "UNAUTHENTICATED"]);
  assert.ok(error.message.endsWith(`/ws: ${WORDS}`), error.message);
  assert.deepEqual(attempts, ["trunkline.v1+json,trunkline.refusal"]);
});

test("what refuses this client for good is not tried again, however long it may wait", async (t) => {
  const { url, attempts } = await refusingByClose(t, { code: 4502 });
  await refusal(connect(url, { WebSocket: PlainSocket, waitMs: 60_000, token: "wrong", reconnect: SOON }));
  assert.equal(attempts.length, 1);
  const byHttp = await refusingByHttp(t, "401 Unauthorized", "");
  await refusal(within("an end", connect(byHttp, { WebSocket, waitMs: 60_000, reconnect: SOON })));
});

test("a token function is asked again, before each attempt", async (t) => {
  const { url, attempts } = await refusingByClose(t, { isRefusing: (attempt) => attempt < 4 });
  let asked = 0;
  const token = (): string => `token-${(asked += 1)}`;
  const hub = await within(
    "a connection",
    connect(url, { WebSocket: PlainSocket, waitMs: 60_000, token, reconnect: SOON, session: false }),
  );
  // Without a session the first refusals come after "connected": what counts is that it comes back with new tokens.
  await within("the fourth attempt", until(() => attempts.length >= 4));
  assert.equal(new Set(attempts).size, 4);
  await hub.close();
});

test("a token function that throws an AuthenticationError ends the client: at first, and at a reconnect", async (t) => {
  const { url, accept } = await listen(t);
  const error = await refusal(connect(url, { token: signedOut, waitMs: 60_000 }));
  assert.ok(error.cause instanceof AuthenticationError);
  assert.match(error.message, /: signed out$/u);

  let isIn = true;
  const token = (): string => (isIn ? "t" : signedOut());
  const [hub, peer] = await Promise.all([connect(url, { session: false, reconnect: SOON, token }), accept()]);
  isIn = false;
  peer.cut();
  assert.deepEqual(await within("the end", hub.closed), { code: 4501, reason: "signed out" });
  assert.match(String(await rejection(hub.call("x"))), /signed out/u);
});

test("other errors of a token function are tried again", async (t) => {
  const { url, accept } = await listen(t);
  let asked = 0;
  const token = (): Promise<string> =>
    (asked += 1) < 3 ? Promise.reject(new Error("the vault is away")) : Promise.resolve("t");
  const [hub] = await Promise.all([connect(url, { ...ONE_CONNECTION, token, waitMs: 60_000, reconnect: SOON, session: false }), accept()]);
  assert.equal(asked, 3);
  await hub.close();
});

/** Answers each call with the name of its method. */
function answerAll(socket: WebSocket): void {
  socket.on("message", (data: Buffer) => {
    const { id, method } = JSON.parse(data.toString()) as { id: number; method: string };
    socket.send(JSON.stringify({ jsonrpc: "2.0", id, result: method }));
  });
}

/** A port on which nobody listens until the function is called. */
async function laterHub(t: TestContext): Promise<{ url: string; begin: () => Promise<void> }> {
  const port = await ownPort();
  const begin = async (): Promise<void> => {
    await serve(t, answerAll, { ...JSON_ALONE, port });
  };
  return { url: `ws://127.0.0.1:${port}/ws`, begin };
}

test("connect waits for a hub that is not there yet, and no longer than it may", async (t) => {
  const { url, begin } = await laterHub(t);
  const begun = performance.now();
  const error = await refusal(connect(url, { waitMs: 150, reconnect: SOON }));
  assert.match(error.message, /cannot connect/u);
  assert.ok(performance.now() - begun >= 150 - EARLY_MS);
  const connecting = connect(url, { waitMs: 60_000, reconnect: SOON, session: false });
  await begin();
  const hub = await within("the connection", connecting);
  assert.equal(await hub.call("a.method"), "a.method");
  await hub.close();
});

test("connect is cancelled by its signal: while it waits, while it dials, and before", async (t) => {
  const { url } = await laterHub(t);
  const silent = createHttpServer();
  silent.on("upgrade", () => undefined);
  const hanging = await serveBare(t, silent);
  for (const target of [url, hanging]) {
    const controller = new AbortController();
    const connecting = connect(target, { waitMs: Infinity, signal: controller.signal, reconnect: SOON });
    setTimeout(() => {
      controller.abort(new Error("the page is left"));
    }, 30);
    const error = await rejection(connecting);
    assert.ok(error instanceof CancelledError);
    assert.equal((error.cause as Error).message, "the page is left");
  }
  assert.ok((await rejection(connect(url, { signal: AbortSignal.abort() }))) instanceof CancelledError);
});

test("a signal that is aborted later has no effect", async (t) => {
  const controller = new AbortController();
  const { hub, peer } = await connected(t, { signal: controller.signal });
  controller.abort();
  await roundTrip(hub, peer);
});

test("a client that connects by itself: calls, streams and subscriptions wait for the hub", async (t) => {
  const { url, begin } = await laterHub(t);
  const hub = createClient(url, { reconnect: SOON, session: false });
  assert.equal(hub.connectionState, "connecting");
  const states: ConnectionState["state"][] = [];
  hub.onConnectionState(({ state }) => states.push(state));
  const call = hub.call("first");
  await within("a failed attempt", until(() => states.length > 1));
  await begin();
  assert.equal(await within("its result", call), "first");
  assert.equal(hub.connectionState, "connected");
  assert.deepEqual(new Set(states), new Set(["connecting", "connected"]));
  await hub.close();
  assert.equal(states.at(-1), "closed");
});

test("a client that connects by itself and may not: every call is told why", async (t) => {
  const { url } = await refusingByClose(t);
  const hub = createClient(url, { WebSocket: PlainSocket, token: "wrong" });
  const waiting = rejection(hub.call("x"));
  assert.deepEqual(await within("the end", hub.closed), { code: 4501, reason: WORDS });
  for (const error of [await waiting, await rejection(hub.call("y"))]) {
    assert.ok(error instanceof DisconnectedError);
    assert.deepEqual([error.code, error.maybeExecuted], [4501, false]);
    assert.ok(error.message.includes(WORDS));
  }
  assert.equal(hub.connectionState, "closed");
});

test("a call without a timeout does not wait for ever where there is no hub", async (t) => {
  const { url } = await laterHub(t);
  const pass = stoppedClock(t);
  const hub = createClient(url);
  const call = rejection(hub.call("x"));
  pass(30_000);
  assert.match(String(await call), /TimeoutError: no connection within 30000 ms/u);
  await hub.close();
});

test("a call that had no connection in time says why there is none", async (t) => {
  const pass = stoppedClock(t);
  const hub = createClient("ws://127.0.0.1:1/ws", { token: providerIsDown, reconnect: SOON });
  const call = rejection(hub.call("x", {}, { timeoutMs: 80 }));
  pass(80);
  const error = await call;
  assert.match(String(error), /no connection within 80 ms: cannot connect to ws:\/\/127\.0\.0\.1:1\/ws: the id provider is down/u);
  assert.ok((error as Error).cause instanceof ConnectError);
  await hub.close();
});

test("pauses between attempts follow the outage: nobody is away for more than twice as long as the hub", () => {
  const pauses = { minMs: 500, maxMs: 20_000 };
  assert.deepEqual([0, 400, 1_500, 60_000].map((away) => pauseMs(away, pauses, () => 1)), [500, 500, 1_500, 20_000]);
  const away = Array.from({ length: 2_000 }, () => {
    let now = 0;
    while (now < 1_500) {
      now += pauseMs(now, pauses);
    }
    return now;
  });
  assert.ok(Math.max(...away) <= 3_000, "of a restart that took 1.5 s");
});
