// Serves a method to everybody on the hub, and calls it once.
//   node examples/serve.mjs
import { setTimeout as sleep } from "node:timers/promises";
import { connect } from "trunkline";

const hub = await connect(process.env.TRUNKLINE_URL ?? "ws://127.0.0.1:8765/ws", {
  token: process.env.TRUNKLINE_TOKEN,
});
hub.onConnectionState((state) => {
  console.error(state);
});

/**
 * @param {{ n: number }} params
 * @param {import("trunkline").ServedCall} call
 */
async function* countdown({ n }, { signal }) {
  for (let left = n; left > 0 && !signal.aborted; left -= 1) {
    yield left;
    await sleep(500);
  }
  return "lift-off";
}

await hub.register("example.countdown", countdown, { streaming: true, summary: "Counts down" });
const stream = hub.stream("example.countdown", { n: 3 });
for await (const { data } of stream) {
  console.log(data);
}
console.log(await stream.result, "- Ctrl+C ends serving");
await hub.closed;
