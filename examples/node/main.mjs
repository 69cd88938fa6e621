// Starts a hub with Python methods as a child, calls them, and goes on when the hub dies.
//   PYTHON=../../.venv/bin/python node main.mjs
import { fileURLToPath } from "node:url";
import { spawnHub } from "trunkline/node";

const hub = await spawnHub({
  python: process.env.PYTHON ?? "python3",
  args: ["--packs", "none", "--methods", "word_methods", "--executors", "1", "--no-demo"],
  cwd: fileURLToPath(new URL(".", import.meta.url)),
  env: { TRUNKLINE_LOG_LEVEL: "error" },
  onState: ({ state }) => {
    console.log(`(the hub is ${state})`);
  },
});
const client = await hub.connect();

const text = "one hub for Node and Python";
console.log(await client.call("words.count", { text }), "words:");
for await (const { data } of client.stream("words.each", { text })) {
  console.log("-", data);
}

// If it is killed, the next one answers on the same port. `idempotent` says that the call may be made again there.
const first = hub.pid ?? 0;
process.kill(first, "SIGKILL");
const second = await client.call("words.hub", {}, { idempotent: true });
console.log(`process ${first} is gone, ${second} answers`);

await client.close();
await hub.stop();
