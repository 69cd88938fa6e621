// A service that leaves as services do: on SIGTERM it drains, and ends. `node restarted_callee.mjs URL [LEDGER]`
// Each call that begins is a line of the ledger, where there is one: its number.
import { appendFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { connect } from "../../clients/js/dist/index.js";

const [url, ledger] = process.argv.slice(2);
const hub = await connect(url);

async function work({ n }) {
  if (ledger !== undefined) {
    appendFileSync(ledger, `${n}\n`);
  }
  await sleep(5);
  return n;
}

const registrations = await Promise.all([
  hub.register("service.work", work),
  hub.register("service.again", work, { idempotent: true }),
]);
process.once("SIGTERM", async () => {
  await Promise.all(registrations.map((registration) => registration.unregister({ drain: true })));
  await hub.close();
});
console.log("serves");
