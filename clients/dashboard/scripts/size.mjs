/**
 * Reports what the page costs a browser, gzipped where the hub serves it so, and fails above the budget.
 */
import { existsSync, readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { built } from "./built.mjs";

const BUDGET_BYTES = 150_000;
/** Loaded when somebody asks for them, not with the page. */
const NOT_LOADED = new Set(["licenses.txt", "client.js", "client-msgpack.js", "client.tgz"]);

const names = readdirSync(built, { recursive: true, encoding: "utf8" }).filter(
  (name) => !name.endsWith(".gz") && !NOT_LOADED.has(name) && statSync(join(built, name)).isFile(),
);
const sizes = names.map((name) => {
  const file = join(built, name);
  return { name, bytes: statSync(existsSync(`${file}.gz`) ? `${file}.gz` : file).size };
});
const total = sizes.reduce((sum, { bytes }) => sum + bytes, 0);
console.log(sizes.map(({ name, bytes }) => `${name} ${bytes} B`).join("\n"));
console.log(`dashboard: ${total} B in all (budget ${BUDGET_BYTES} B)`);
if (total > BUDGET_BYTES || names.length === 0) {
  process.exitCode = 1;
}
