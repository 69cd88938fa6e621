// A caller, like caller.py: `node caller.mjs URL FIRST CALLS AT_ONCE`. Says that it is connected, waits
// for a line, then prints the outcome of each call, a line of JSON.
import { once } from "node:events";
import { connect, isHubError } from "../../../clients/js/dist/index.js";

const [url, ...numbers] = process.argv.slice(2);
const [first, calls, atOnce] = numbers.map(Number);
const METHODS = ["hub.once", "hub.again", "service.work", "service.again"];
const hub = await connect(url);
let next = first;

async function call(n) {
  const method = METHODS[n % METHODS.length];
  const begun = performance.now();
  const outcome = { n, method, error: "", maybe_executed: false };
  try {
    if ((await hub.call(method, { n }, { idempotent: method.endsWith("again") })) !== n) {
      outcome.error = "wrong";
    }
  } catch (error) {
    outcome.error = isHubError(error) ? `${error.kind} ${error.code ?? ""} ${error.message}` : String(error);
    outcome.maybe_executed = error.maybeExecuted === true;
  }
  console.log(JSON.stringify({ ...outcome, seconds: (performance.now() - begun) / 1000 }));
}

async function lane() {
  while (next < first + calls) {
    await call((next += 1) - 1);
  }
}

console.log("connected");
await once(process.stdin, "data");
process.stdin.destroy();
await Promise.all(Array.from({ length: atOnce }, lane));
await hub.close();
