// JSON-RPC clients from npm, unchanged, against a hub: node clients.mjs <client> host:port
import WebSocket from "ws";

const [client, address] = process.argv.slice(2);
const http = `http://${address}/rpc`;
const ws = `ws://${address}/ws`;
const say = (what, more) => console.log(JSON.stringify({ what, ...more }));
const failure = async (promise) => promise.then((value) => ({ value }), (error) => ({ code: error.code, message: error.message, data: error.data }));
const opened = (socket) => new Promise((resolve, reject) => socket.on("open", resolve).on("error", reject));

const clients = {
  async "json-rpc-2.0 over HTTP"() {
    const { JSONRPCClient } = await import("json-rpc-2.0");
    const statuses = [];
    const rpc = new JSONRPCClient(async (payload) => {
      const response = await fetch(http, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(payload) });
      statuses.push(response.status);
      if (response.status === 200) rpc.receive(await response.json());
      else if (payload.id !== undefined) throw new Error(response.statusText);
    });
    say("result", { value: await rpc.request("debug.echo", { value: ["ä", 1, null] }) });
    say("error", await failure(rpc.request("nobody.serves.this")));
    rpc.notify("debug.echo", { value: 1 });
    const batch = await rpc.requestAdvanced([1, 2].map((id) => ({ jsonrpc: "2.0", id, method: "debug.echo", params: [id] })));
    say("batch", { values: batch.sort((a, b) => a.id - b.id).map((reply) => reply.result) });
    say("statuses", { statuses: statuses.sort() });
  },

  async "json-rpc-2.0 over WebSocket"() {
    const { JSONRPCClient, JSONRPCServer, JSONRPCServerAndClient } = await import("json-rpc-2.0");
    const socket = new WebSocket(ws);
    await opened(socket);
    const both = new JSONRPCServerAndClient(new JSONRPCServer(), new JSONRPCClient((message) => socket.send(JSON.stringify(message))));
    socket.on("message", (data) => both.receiveAndSend(JSON.parse(data.toString())));
    const events = new Promise((resolve) => both.addMethod("event", resolve));
    both.addMethod("interop.twice", ({ n }) => 2 * n);
    say("result", { value: await both.request("debug.echo", { value: "x" }) });
    say("error", await failure(both.request("debug.sleep", { seconds: "x" })));
    await both.request("subscribe", { topic: "interop.json-rpc" });
    await both.request("publish", { topic: "interop.json-rpc", data: { n: 1 } });
    say("event", { event: await events });
    await both.request("method.register", { method: "interop.twice" });
    say("served", { value: await both.request("debug.call", { method: "interop.twice", params: { n: 21 } }) });
    socket.close();
  },

  async "rpc-websockets"() {
    const { Client } = await import("rpc-websockets");
    const rpc = new Client(ws);
    await new Promise((resolve) => rpc.on("open", resolve));
    say("result", { value: await rpc.call("debug.echo", { value: "x" }) });
    say("positional", { value: await rpc.call("debug.echo", ["x"]) });
    say("error", await failure(rpc.call("nobody.serves.this")));
    await rpc.notify("debug.echo", { value: 1 });
    say("many", { values: await Promise.all([...Array(50).keys()].map((n) => rpc.call("debug.echo", { value: n }))) });
    rpc.close();
  },

  async "vscode-jsonrpc"() {
    const { createMessageConnection, CancellationTokenSource, ProgressType } = await import("vscode-jsonrpc");
    const { WebSocketMessageReader, WebSocketMessageWriter, toSocket } = await import("vscode-ws-jsonrpc");
    const socket = new WebSocket(ws);
    await opened(socket);
    const wrapped = toSocket(socket);
    // The library has no word for metadata beside params; its writer is where an application adds some.
    class Writer extends WebSocketMessageWriter {
      write(message) {
        return super.write(message.method === "lab.progress" ? { ...message, metadata: { progress_token: "steps" } } : message);
      }
    }
    const connection = createMessageConnection(new WebSocketMessageReader(wrapped), new Writer(wrapped));
    const reports = [];
    connection.onProgress(new ProgressType(), "steps", (value) => reports.push(value.step));
    const chunks = [];
    connection.onNotification("stream_chunk", (params) => chunks.push(params));
    connection.onRequest("interop.vscode", ({ n }) => 2 * n);
    connection.listen();
    say("result", { value: await connection.sendRequest("debug.echo", { value: "x" }) });
    say("error", await failure(connection.sendRequest("nobody.serves.this", {})));
    const source = new CancellationTokenSource();
    const running = failure(connection.sendRequest("debug.sleep", { seconds: 60 }, source.token));
    await connection.sendRequest("rpc.ping", {});
    source.cancel();
    say("cancelled", await running);
    say("progress", { value: await connection.sendRequest("lab.progress", { steps: 3 }), reports });
    say("stream", { value: await connection.sendRequest("debug.count", { n: 3 }), indexes: chunks.map((chunk) => chunk.index) });
    await connection.sendRequest("method.register", { method: "interop.vscode" });
    say("served", { value: await connection.sendRequest("debug.call", { method: "interop.vscode", params: { n: 21 } }) });
    connection.dispose();
    socket.close();
  },

  async "@open-rpc/client-js"() {
    const { Client, HTTPTransport, RequestManager, WebSocketTransport } = await import("@open-rpc/client-js");
    for (const make of [() => new HTTPTransport(http), () => new WebSocketTransport(ws)]) {
      const transport = make(); // it connects at once, and only hears of that if it is used at once
      const manager = new RequestManager([transport]);
      const rpc = new Client(manager);
      const kind = transport.constructor.name;
      say("result", { kind, value: await rpc.request({ method: "debug.echo", params: { value: "x" } }) });
      say("error", { kind, ...(await failure(rpc.request({ method: "nobody.serves.this", params: {} }))) });
      await rpc.notify({ method: "debug.echo", params: { value: 1 } });
      rpc.startBatch();
      const both = Promise.all([1, 2].map((value) => rpc.request({ method: "debug.echo", params: { value } })));
      rpc.stopBatch();
      say("batch", { kind, values: await both });
      rpc.close();
    }
  },
};

await clients[client]();
say("done");
process.exit(0);
