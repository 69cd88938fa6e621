import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer as createHttpServer } from "node:http";
import { createServer, type Socket } from "node:net";
import { test } from "node:test";
import { WebSocket } from "ws";
import { connect as connectInBrowser } from "../src/browser.js";
import { connect, ConnectError } from "../src/index.js";
import { PlainSocket } from "./support/plain-socket.js";
import { ownPort } from "./support/ports.js";
import { connected, listen, ONE_CONNECTION, rejection, roundTrip, serveBare } from "./support/scripted.js";
import { pause, stoppedClock, within } from "./support/time.js";

test("without a token the subprotocol is all there is", async (t) => {
  const { peer } = await connected(t);
  assert.equal(peer.header("sec-websocket-protocol"), "trunkline.v1+json");
  assert.equal(peer.header("authorization"), undefined);
});

test("ws sends the token as a header, and nowhere else", async (t) => {
  const { peer } = await connected(t, { WebSocket, token: "s3cret" });
  assert.equal(peer.header("authorization"), "Bearer s3cret");
  assert.equal(peer.header("sec-websocket-protocol"), "trunkline.v1+json");
});

test("where no headers can be set the token is a subprotocol", async (t) => {
  // The bytes of this token need both characters base64url changes, and padding.
  const token = "ÿ>?~ÿ";
  const { hub, peer } = await connected(t, { WebSocket: PlainSocket, token });
  const encoded = Buffer.from(token).toString("base64url");
  assert.match(encoded, /[-_]/u);
  assert.equal(peer.header("sec-websocket-protocol"), `trunkline.v1+json,trunkline.refusal,trunkline.bearer.${encoded}`);
  assert.equal(peer.header("authorization"), undefined);
  await hub.close();
});

test("the build for browsers: a token is a subprotocol, and a failure tells nothing", async (t) => {
  const { url, accept } = await listen(t);
  // Even if a class could set headers.
  const options = { ...ONE_CONNECTION, WebSocket, token: "s3cret" };
  const [hub, peer] = await Promise.all([connectInBrowser(url, options), accept()]);
  assert.match(String(peer.header("sec-websocket-protocol")), /^trunkline\.v1\+json,trunkline\.refusal,trunkline\.bearer\.\S+$/u);
  await roundTrip(hub, peer);
  await hub.close();
  const refused = await rejection(connectInBrowser("ws://127.0.0.1:1/ws", { WebSocket }));
  assert.ok(refused instanceof ConnectError);
  assert.match(refused.message, /refused, or nobody there/u);
  const missing = await rejection(connectInBrowser("ws://127.0.0.1:1/ws", { WebSocket: undefined }));
  assert.ok(missing instanceof ConnectError);
});

test("an empty token is a mistake, not no token", async () => {
  const error = await rejection(connect("ws://127.0.0.1:1/ws", { token: "" }));
  assert.ok(error instanceof TypeError);
  assert.match(error.message, /token is empty/u);
});

test("a refused handshake is a ConnectError", async (t) => {
  const server = createHttpServer();
  server.on("upgrade", (_request, socket) => {
    socket.end("HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
  });
  const error = await rejection(connect(await serveBare(t, server), { WebSocket }));
  assert.ok(error instanceof ConnectError);
  assert.match(error.message, /401/u);
  assert.deepEqual([error.kind, error.name, error.maybeExecuted], ["connect", "ConnectError", false]);
});

test("nobody there is a ConnectError", async () => {
  const url = `ws://127.0.0.1:${await ownPort()}/ws`;
  assert.ok((await rejection(connect(url))) instanceof ConnectError);
  const error = await rejection(connect(url, { WebSocket }));
  assert.ok(error instanceof ConnectError);
  assert.equal((error.cause as NodeJS.ErrnoException).code, "ECONNREFUSED");
});

test("a handshake nobody answers ends after connectTimeoutMs, and its socket with it", async (t) => {
  const server = createServer((socket) => {
    socket.on("error", () => {}).resume();
  });
  const pass = stoppedClock(t);
  const dialled = new Promise<Socket>((resolve) => {
    server.once("connection", resolve);
  });
  const url = await serveBare(t, server);
  const failing = rejection(connect(url, { connectTimeoutMs: 80 }));
  const dropped = once(await within("the client dials", dialled), "close").then(() => "dropped");
  pass(79);
  assert.equal(await Promise.race([failing, dropped, pause(20)]), undefined, "not yet");
  pass(1);
  const error = await failing;
  assert.ok(error instanceof ConnectError);
  assert.match(error.message, /no answer within 80 ms/u);
  await within("the client drops the connection", dropped);
});

test("a server that agrees on no subprotocol is refused", async (t) => {
  const { url } = await listen(t, { subprotocol: false });
  // A class that, unlike all real ones, does not mind itself.
  class Lenient extends WebSocket {
    constructor(target: string, _protocols: string[]) {
      super(target);
    }
  }
  const error = await rejection(connect(url, { WebSocket: Lenient }));
  assert.ok(error instanceof ConnectError);
  assert.match(error.message, /does not speak trunkline\.v1\+json/u);
  assert.ok((await rejection(connect(url))) instanceof ConnectError);
});

for (const url of ["not a url", "", "localhost:8765/ws", "127.0.0.1:8765/ws", "ftp://127.0.0.1/ws", "/ws", "./ws"]) {
  test(`${JSON.stringify(url)} is a TypeError at once`, async () => {
    const error = await rejection(connect(url, { waitMs: Infinity }));
    assert.ok(error instanceof TypeError);
    assert.match(error.message, /url has to begin with ws:\/\/ or wss:\/\//u);
  });
}

test("an address that the platform refuses is not tried again", async () => {
  const error = await rejection(connect("ws://127.0.0.1:99999/ws", { waitMs: Infinity }));
  assert.ok(error instanceof ConnectError);
  assert.deepEqual([error.retryable, error.cause instanceof Error], [false, true]);
});

test("messages name the address but no secrets in it", async () => {
  const error = await rejection(connect("ws://user:hunter2@127.0.0.1:1/ws?key=hunter3"));
  assert.ok(error instanceof ConnectError);
  assert.match(error.message, /cannot connect to ws:\/\/127\.0\.0\.1:1\/ws: /u);
  assert.doesNotMatch(error.message, /hunter/u);
});

for (const connectTimeoutMs of [0, -1, Number.NaN, Number.POSITIVE_INFINITY]) {
  test(`connectTimeoutMs ${connectTimeoutMs} is a TypeError`, async () => {
    const error = await rejection(connect("ws://127.0.0.1:1/ws", { connectTimeoutMs }));
    assert.ok(error instanceof TypeError);
    assert.match(error.message, /connectTimeoutMs/u);
  });
}

test("a URL object will do, and a message right behind the handshake is heard", async (t) => {
  const { url, accept } = await listen(t, { greeting: "early" });
  const warnings: string[] = [];
  const onWarning = (message: string): void => {
    warnings.push(message);
  };
  const [hub, peer] = await Promise.all([connect(new URL(url), { ...ONE_CONNECTION, onWarning }), accept()]);
  await roundTrip(hub, peer);
  assert.deepEqual(warnings, ["not a JSON object: early"]);
});
