// Follows a topic or a pattern, through cuts and restarts of the hub, and publishes what is typed.
//   node examples/subscribe.mjs chat.lobby
import { createInterface } from "node:readline";
import { connect } from "trunkline";

const topic = process.argv[2] ?? "chat.lobby";
const token = process.env.TRUNKLINE_TOKEN;
const hub = await connect(process.env.TRUNKLINE_URL ?? "ws://127.0.0.1:8765/ws", { token });

hub.onConnectionState(({ state }) => {
  console.error(state);
});

createInterface({ input: process.stdin }).on("line", (line) => {
  hub.publish(topic, line).catch((error) => {
    console.error(String(error));
  });
});

const subscription = await hub.subscribe(topic);
for await (const message of subscription) {
  if (message.kind === "event") {
    console.log(`${message.topic} ${message.offset}:`, message.data);
  } else {
    console.log(`${message.topic}: ${message.count ?? "some"} events are missing (${message.reason})`);
  }
}
