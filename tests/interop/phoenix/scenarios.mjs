// phoenix.js, unchanged, against a hub: `node scenarios.mjs SCENARIO ENDPOINT [TOKEN]`.
// Says what happens in JSON lines, and goes on where it has to wait for the test when that says a word on stdin.

import { createInterface } from "node:readline";
import { LongPoll, Socket } from "phoenix";
import WebSocket from "ws";

const [, , scenario, endpoint, token] = process.argv;

const say = (what, more = {}) => process.stdout.write(`${JSON.stringify({ what, ...more })}\n`);

const words = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const told = async (word) => {
  const { value } = await words.next();
  if (value !== word) throw new Error(`expected ${word}, was told ${value}`);
};

const connect = (options = {}) => {
  const socket = new Socket(endpoint, {
    transport: WebSocket,
    reconnectAfterMs: () => 50,
    rejoinAfterMs: () => 50,
    ...options,
  });
  socket.onOpen(() => say("open"));
  socket.onClose((event) => say("close", { code: event.code }));
  socket.connect();
  return socket;
};

// A WebSocket that a proxy refuses; the endpoint of the polls is the real one.
class Refused extends WebSocket {
  constructor(url, ...more) {
    super(url.replace("/socket/", "/refused/"), ...more);
  }
}

const join = (channel) =>
  new Promise((resolve, reject) => channel.join().receive("ok", resolve).receive("error", reject).receive("timeout", reject));

const push = (channel, event, payload) =>
  new Promise((resolve) => {
    const answer = (status) => (response) => resolve({ status, response });
    const sent = channel.push(event, payload);
    for (const status of ["ok", "error", "timeout"]) sent.receive(status, answer(status));
  });

const leave = (channel) => new Promise((resolve) => channel.leave().receive("ok", resolve));

const scenarios = {
  async calls() {
    const socket = connect();
    const channel = socket.channel("rpc:calls");
    say("joined", { response: await join(channel) });
    const chunks = [];
    channel.on("stream_chunk", (chunk) => chunks.push(chunk));
    channel.on("$/progress", (progress) => say("progress", { progress }));
    say("ok", await push(channel, "debug.echo", { value: { text: "é" } }));
    say("error", await push(channel, "no.such", {}));
    const stream = channel.push("debug.count", { n: 3 });
    await new Promise((resolve) => stream.receive("ok", resolve));
    say("streamed", { ref: stream.ref, chunks });
    say("metadata", await push(channel, "debug.sleep", { seconds: 60, $metadata: { timeout_ms: 100 } }));
    const slow = channel.push("debug.sleep", { seconds: 60 });
    const cancelled = new Promise((resolve) => slow.receive("error", resolve)); // before or after the other's reply
    say("cancel", await push(channel, "$/cancelRequest", { id: slow.ref }));
    say("cancelled", { response: await cancelled });
    const { status, response } = await push(channel, "binary.reverse", new Uint8Array([0, 1, 255]).buffer);
    say("binary", { status, response: [...new Uint8Array(response)] });
    channel.onClose(() => say("channel closed"));
    say("left", { response: await leave(channel) });
    say("state", { state: channel.state, channels: socket.channels.length });
  },

  async heartbeats() {
    const socket = connect({ heartbeatIntervalMs: 2_500 }); // as long it waits for an answer, too, before it closes
    let answered = 0;
    socket.onMessage(({ topic, event, ref, payload }) => {
      if (topic === "phoenix" && event === "phx_reply" && ref && payload.status === "ok") answered += 1;
      if (answered === 2) say("answered", { connected: socket.isConnected() });
    });
    socket.onOpen(() => socket.ping((ms) => say("pinged", { isNumber: typeof ms === "number" })));
  },

  async topics() {
    const socket = connect();
    const exact = socket.channel("topic:jobs.42");
    const pattern = socket.channel("topic:jobs.*");
    const calls = socket.channel("rpc:jobs");
    for (const channel of [exact, pattern]) channel.on("event", (event) => say("event", { on: channel.topic, event }));
    say("joined", { response: await join(exact) });
    await join(pattern);
    await join(calls);
    say("published", await push(exact, "publish", { done: 7 }));
    await told("leave");
    await leave(exact);
    say("published", await push(calls, "publish", { topic: "jobs.42", data: { done: 8 } }));
    say("refused", await push(pattern, "publish", {}));
    const unmatched = socket.channel("room:lobby");
    say("unmatched", { response: await join(unmatched).catch((reason) => reason) });
  },

  // Goes on where it was: the params of a join may be a function, which is asked again at each rejoin.
  async recover() {
    const socket = connect(token === "longpoll" ? { transport: LongPoll } : {});
    let position;
    const channel = socket.channel("topic:jobs", () => (position ? { recover: position } : {}));
    const calls = socket.channel("rpc:jobs");
    channel.on("event", ({ data, epoch, offset }) => {
      position = { epoch, offset };
      say("event", { data, offset });
    });
    channel.on("event.gap", ({ epoch, to, reason }) => {
      position = { epoch, offset: to };
      say("gap", { reason });
    });
    channel.onError((reason) => say("channel error", { reason }));
    channel.onClose(() => say("channel closed"));
    channel.join().receive("ok", (response) => {
      position ??= { epoch: response.epoch, offset: response.offset };
      say("joined", { recovered: response.recovered });
    });
    calls.join().receive("ok", () => say("calls joined"));
    await told("call");
    say("called", await push(calls, "debug.echo", { value: 1 }));
  },

  async twice() {
    const socket = connect();
    const first = socket.channel("rpc:twice");
    await join(first);
    first.onClose(() => say("first closed"));
    first.push("debug.sleep", { seconds: 60 }).receive("error", ({ code }) => say("first cancelled", { code }));
    const ref = socket.makeRef(); // as another page would that shares this socket: phoenix.js itself leaves before
    socket.push({ topic: first.topic, event: "phx_join", payload: {}, ref, join_ref: ref });
    await told("again");
    const [second, third] = [socket.channel("topic:twice"), socket.channel("topic:twice")];
    second.onClose(() => say("second closed"));
    await join(second);
    say("third joined", { response: await join(third) });
    third.on("event", () => say("third event"));
    say("published", await push(third, "publish", {}));
  },

  async crash() {
    const socket = connect();
    const channel = socket.channel("topic:crash");
    channel.onError((reason) => say("channel error", { reason }));
    channel.join().receive("ok", () => say("joined"));
    await told("crash");
    channel.push("phx_close", {});
  },

  async authenticate() {
    const socket = connect({ authToken: token, reconnectAfterMs: () => 60_000 });
    socket.onError((error) => say("error", { message: error.message }));
    say("joined", { response: await join(socket.channel("rpc:a")) });
  },

  // As a Phoenix app has it: names and events of its own.
  async room() {
    const sockets = [connect(), connect({ transport: LongPoll }), connect()];
    const rooms = sockets.map((socket) => socket.channel("room:42", { nick: "ann" }));
    for (const [at, room] of rooms.entries()) {
      room.on("new_msg", (payload) => say("new_msg", { at, payload }));
      room.on("bytes", (payload) => say("bytes", { at, payload: payload.byteLength ? [...new Uint8Array(payload)] : payload }));
      room.on("event.gap", () => say("gap", { at }));
    }
    for (const room of rooms) say("joined", { response: await join(room) });
    say("pushed", await push(rooms[0], "new_msg", { body: "hi" }));
    say("refused", await push(rooms[0], "event.gap", {}));
    await told("bytes");
    say("pushed", await push(rooms[0], "bytes", new Uint8Array([0, 255]).buffer));
    await told("leave");
    await leave(rooms[2]);
    say("unmatched", { response: await join(sockets[2].channel("chat:1")).catch((reason) => reason) });
    say("pushed", await push(rooms[1], "new_msg", { body: "bye" }));
  },

  // A client that names itself: phoenix.js joins again, with no position, and goes on where it was.
  async remembers() {
    const transport = token === "longpoll" ? { transport: LongPoll } : {};
    const socket = connect({ ...transport, params: { client: `page-${token}` }, heartbeatIntervalMs: 60_000 });
    const room = socket.channel(`room:${token}`);
    room.on("new_msg", ({ n }) => say("new_msg", { n }));
    room.on("event.gap", () => say("gap"));
    room.join().receive("ok", ({ recovered, repeats }) => say("joined", { recovered, repeats }));
    for (;;) {
      await told("ping");
      await new Promise((resolve) => socket.ping(resolve)); // a heartbeat
      say("pinged");
    }
  },

  // By long polling: calls, streams, bytes, topics, and what another client publishes.
  async polls() {
    const socket = connect({ transport: LongPoll, params: { token } });
    const calls = socket.channel("rpc:polls");
    const topic = socket.channel("topic:polls");
    topic.on("event", (event) => say("event", { event }));
    say("joined", { response: await join(topic) });
    await join(calls);
    const chunks = [];
    calls.on("stream_chunk", (chunk) => chunks.push(chunk.index));
    say("ok", await push(calls, "debug.echo", { value: { text: "é\n" } }));
    say("error", await push(calls, "no.such", {}));
    await push(calls, "debug.count", { n: 300 });
    say("streamed", { chunks });
    say("binary", await push(calls, "debug.echo", { value: { $bytes: "AQI=" } }));
    await told("crowd");
    const answers = await Promise.all(Array.from({ length: 250 }, (_, value) => push(calls, "debug.echo", { value })));
    say("crowd", { values: answers.map(({ response }) => response) });
    await told("leave");
    say("left", { response: await leave(topic) });
  },

  // By long polling, with phoenix.js' authToken, which goes in a header of polls only.
  async polls_with_auth_token() {
    const socket = connect({ transport: LongPoll, authToken: token, reconnectAfterMs: () => 60_000 });
    socket.onError((error) => say("error", { error }));
    const channel = socket.channel("rpc:a");
    say("joined", { response: await join(channel) });
    say("ok", await push(channel, "rpc.ping", {}));
  },

  // The WebSocket does not come through: as a new Phoenix app configures it.
  async falls_back() {
    const socket = connect({ transport: Refused, longPollFallbackMs: 200 });
    const channel = socket.channel("topic:fallback");
    channel.on("event", ({ data }) => say("event", { data }));
    say("joined", { response: await join(channel), transport: socket.transport === LongPoll });
  },

  async version_1() {
    const socket = connect({ vsn: "1.0.0", reconnectAfterMs: () => 60_000 });
    socket.onError((error) => say("error", { message: error.message }));
  },
};

await scenarios[scenario]();
say("done");
