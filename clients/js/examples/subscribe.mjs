// Follows a topic or a pattern, through cuts and restarts of the hub, and publishes what is typed.
//   node examples/subscribe.mjs chat.lobby
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import { connect, isHubError } from "trunkline";

const topic = process.argv[2] ?? "chat.lobby";
const token = process.env.TRUNKLINE_TOKEN;
const url = process.env.TRUNKLINE_URL ?? "ws://127.0.0.1:8765/ws";

/** @type {import("trunkline").Hub | undefined} */
let hub;
/** @type {import("trunkline").Position | undefined} */
let position;

createInterface({ input: process.stdin }).on("line", (line) => {
  hub?.publish(topic, line).catch((error) => {
    console.error(String(error));
  });
});

for (;;) {
  try {
    hub = await connect(url, { token });
    const subscription = await hub.subscribe(topic, { recover: position });
    for await (const message of subscription) {
      position = subscription.position;
      if (message.kind === "event") {
        console.log(`${message.topic} ${message.offset}:`, message.data);
      } else {
        console.log(`${message.topic}: ${message.count ?? "some"} events are missing (${message.reason})`);
      }
    }
  } catch (error) {
    // Close codes 4500 to 4999 ask not to come again.
    if (!isHubError(error) || error.kind === "rpc" || (error.kind === "disconnected" && error.code >= 4500)) {
      throw error;
    }
    console.error(error.message);
    // Not all clients of a hub that restarts should be back in the same moment.
    await sleep(500 + 1_000 * Math.random());
  }
}
