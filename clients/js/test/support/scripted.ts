/**
 * A hub that says only what a test tells it to.
 */
import assert from "node:assert/strict";
import type { IncomingMessage } from "node:http";
import type { AddressInfo, Server, Socket } from "node:net";
import type { TestContext } from "node:test";
import { WebSocketServer, type WebSocket } from "ws";
import { connect, ConnectError, type CloseInfo, type ConnectOptions, type Hub } from "../../src/index.js";
import { AsyncQueue } from "../../src/queue.js";
import { CODEC } from "./codec.js";
import { within } from "./time.js";

/** A message as the scripted hub received it; tests assert what they rely on. */
export interface Received {
  readonly jsonrpc: unknown;
  readonly id: number;
  readonly method: string;
  readonly params: Readonly<Record<string, unknown>>;
  readonly metadata?: Readonly<Record<string, unknown>>;
  readonly error?: unknown;
}

/** The hub's end of one connection. */
export class Peer {
  readonly closed: Promise<CloseInfo>;
  readonly #socket: WebSocket;
  readonly #handshake: IncomingMessage;
  readonly #inbox = new AsyncQueue<Received>();

  constructor(socket: WebSocket, handshake: IncomingMessage) {
    this.#socket = socket;
    this.#handshake = handshake;
    socket.on("message", (data: Buffer, isBinary: boolean) => {
      this.#inbox.push(CODEC.parse(isBinary ? new Uint8Array(data) : data.toString()) as Received);
    });
    this.closed = new Promise((resolve) => {
      socket.on("close", (code, reason) => {
        this.#inbox.end();
        resolve({ code, reason: reason.toString() });
      });
    });
  }

  header(name: string): string | string[] | undefined {
    return this.#handshake.headers[name];
  }

  /** The next message of the client. */
  async next(): Promise<Received> {
    const { value, done } = await within("a message from the client", this.#inbox.next());
    if (done === true) {
      throw new Error("the client sent nothing more");
    }
    return value;
  }

  send(message: object): void {
    this.#socket.send(CODEC.encode({ jsonrpc: "2.0", ...message }));
  }

  text(text: string): void {
    this.#socket.send(text);
  }

  binary(bytes: Uint8Array): void {
    this.#socket.send(bytes);
  }

  result(id: number, result: unknown): void {
    this.send({ id, result });
  }

  error(id: number | null, code: number, data?: unknown): void {
    this.send({ id, error: { code, message: `error ${code}`, data } });
  }

  chunk(id: number, index: number, data: unknown): void {
    const params = { request_id: id, chunk_type: "part", data, is_final: false, index };
    this.send({ method: "stream_chunk", params });
  }

  finalChunk(id: number, index: number): void {
    const params = { request_id: id, chunk_type: "part", data: null, is_final: true, index };
    this.send({ method: "stream_chunk", params });
  }

  progress(token: unknown, value: unknown): void {
    this.send({ method: "$/progress", params: { token, value } });
  }

  event(topic: string, offset: number, data: unknown = offset, epoch = "e1"): void {
    this.send({ method: "event", params: { topic, data, epoch, offset, published_at: 1_765_432_100_000 + offset } });
  }

  gap(topic: string, from: number, to: number, { epoch = "e1", reason = "slow_consumer" } = {}): void {
    this.send({ method: "event.gap", params: { topic, epoch, from, to, count: to - from + 1, reason } });
  }

  /** Answers the next message, which has to be a `subscribe`; `offset` undefined stands for a pattern. */
  async subscribed(offset?: number, recovered = false): Promise<Received> {
    const request = await this.next();
    assert.equal(request.method, "subscribe");
    const start = offset === undefined ? { epoch: null, offset: 0 } : { epoch: "e1", offset };
    this.result(request.id, { topic: request.params["topic"], ...start, recovered });
    return request;
  }

  /** Answers the next message, which has to be an `unsubscribe`. */
  async unsubscribed(topic: string): Promise<void> {
    const { id, method, params } = await this.next();
    assert.deepEqual([method, params], ["unsubscribe", { topic }]);
    this.result(id, { topic, unsubscribed: true });
  }

  /** Everything that is sent by `say` leaves in one TCP segment, and so arrives in one turn of the event loop. */
  together(say: () => void): void {
    // ws keeps its socket to itself; there is no other way to hold frames back.
    const { _socket: socket } = this.#socket as unknown as { _socket: Socket };
    socket.cork();
    say();
    socket.uncork();
  }

  /** Ends the TCP connection without a close frame, as a cable would. */
  cut(): void {
    this.#socket.terminate();
  }

  close(code: number, reason: string): void {
    this.#socket.close(code, reason);
  }
}

/** Listens for WebSockets until the test ends; gives their URL. */
export async function serve(
  t: TestContext,
  onSocket: (socket: WebSocket, handshake: IncomingMessage) => void,
  { port = 0, subprotocol = CODEC.subprotocol }: { port?: number; subprotocol?: string | false } = {},
): Promise<string> {
  const server = new WebSocketServer({ port, host: "127.0.0.1", handleProtocols: () => subprotocol });
  server.on("connection", onSocket);
  await new Promise<void>((resolve) => {
    server.once("listening", resolve);
  });
  t.after(() => {
    for (const client of server.clients) {
      client.terminate();
    }
    server.close();
  });
  return `ws://127.0.0.1:${(server.address() as AddressInfo).port}/ws`;
}

/** Lets a server that is no hub listen until the test ends; gives the URL where a hub would be. */
export async function serveBare(t: TestContext, server: Server): Promise<string> {
  const sockets = new Set<Socket>();
  server.on("connection", (socket) => sockets.add(socket));
  await new Promise<void>((resolve) => {
    server.listen(0, "127.0.0.1", resolve);
  });
  t.after(() => {
    for (const socket of sockets) {
      socket.destroy();
    }
    server.close();
  });
  return `ws://127.0.0.1:${(server.address() as AddressInfo).port}/ws`;
}

/** A listening scripted hub; gone when the test ends. */
export async function listen(
  t: TestContext,
  { greeting, ...options }: { subprotocol?: string | false; greeting?: string } = {},
): Promise<{ url: string; accept: () => Promise<Peer> }> {
  const peers = new AsyncQueue<Peer>();
  const url = await serve(
    t,
    (socket, handshake) => {
      if (greeting !== undefined) {
        socket.send(greeting);
      }
      peers.push(new Peer(socket, handshake));
    },
    options,
  );
  const accept = async (): Promise<Peer> => (await within("a connection", peers.next())).value as Peer;
  return { url, accept };
}

/** For tests of single exchanges: nothing comes again. */
export const ONE_CONNECTION: ConnectOptions = { session: false, reconnect: false, retry: false };

/**
 * A client connected to a scripted hub, and what the client warned of. Unless told otherwise it has one connection, no
 * session, and makes no call twice: what is tested is one exchange of messages.
 */
export async function connected(
  t: TestContext,
  options: ConnectOptions = {},
): Promise<{ hub: Hub; peer: Peer; warnings: string[] }> {
  const { url, accept } = await listen(t);
  const warnings: string[] = [];
  const onWarning = (message: string): void => {
    warnings.push(message);
  };
  const [hub, peer] = await Promise.all([connect(url, { ...ONE_CONNECTION, onWarning, ...options }), accept()]);
  return { hub, peer, warnings };
}

/** What a promise rejects with; a failed test if it does not. */
export async function rejection(promise: Promise<unknown>): Promise<unknown> {
  let value: unknown;
  try {
    value = await within("a rejection", promise);
  } catch (error) {
    return error;
  }
  throw new Error(`should have been rejected, but gave ${JSON.stringify(value)}`);
}

/** What keeps a connection from coming about. */
export async function refusal(promise: Promise<unknown>): Promise<ConnectError> {
  const error = await rejection(promise);
  assert.ok(error instanceof ConnectError, String(error));
  return error;
}

/** Proves that everything sent before, in both directions, has been handled. */
export async function roundTrip(hub: Hub, peer: Peer): Promise<void> {
  const call = hub.call("round.trip");
  const { id, method } = await peer.next();
  assert.equal(method, "round.trip");
  peer.result(id, null);
  await call;
}
