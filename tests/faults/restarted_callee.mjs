// A service that serves one method, and leaves as services do: on SIGTERM it drains, and ends. `node restarted_callee.mjs URL`
import { setTimeout as sleep } from "node:timers/promises";
import { connect } from "../../clients/js/dist/index.js";

const hub = await connect(process.argv[2]);
const registration = await hub.register("service.work", async ({ n }) => {
  await sleep(5);
  return n;
});
process.once("SIGTERM", async () => {
  await registration.unregister({ drain: true });
  await hub.close();
});
console.log("serves");
