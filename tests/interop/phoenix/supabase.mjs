// @supabase/realtime-js, unchanged, against a hub whose channels include realtime:*: `node supabase.mjs ENDPOINT`.

import { createInterface } from "node:readline";
import { RealtimeClient } from "@supabase/realtime-js";
import WebSocket from "ws";

const [, , endpoint] = process.argv;
const say = (what, more = {}) => process.stdout.write(`${JSON.stringify({ what, ...more })}\n`);
const words = createInterface({ input: process.stdin })[Symbol.asyncIterator]();

const connect = () =>
  new RealtimeClient(endpoint, {
    params: { apikey: "none", client: "page" },
    transport: WebSocket,
    reconnectAfterMs: () => 50,
    heartbeatIntervalMs: 1_000,
    heartbeatCallback: (status) => say("heartbeat", { status }),
  });

const client = connect();
const channel = client.channel("a", { config: { broadcast: { ack: true, self: true } } });
channel.on("broadcast", { event: "shout" }, ({ payload }) => say("shout", { payload }));
channel.subscribe((status, error) => say("status", { status, error: error?.message }));

for await (const word of words) {
  if (word === "send") say("sent", { status: await channel.send({ type: "broadcast", event: "shout", payload: { n: 1 } }) });
  if (word === "auth") await client.setAuth("a-secret-token").then(() => say("auth"));
  if (word === "track") say("tracked", { status: await channel.track({ user: 1 }, { timeout: 500 }) });
  if (word === "leave") say("left", { status: await client.removeChannel(channel) });
}
