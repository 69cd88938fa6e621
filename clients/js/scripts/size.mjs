/**
 * Reports what the client costs a browser, minified and gzipped, and fails above the budget.
 *
 * Bundling dist/index.js for a browser also proves that it needs nothing a browser lacks: `ws` is left out by
 * the "browser" map of package.json, and any other import would not resolve.
 */
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { build } from "esbuild";

const BUDGET_BYTES = 8_000;

const { outputFiles } = await build({
  absWorkingDir: fileURLToPath(new URL("..", import.meta.url)),
  entryPoints: ["dist/index.js"],
  bundle: true,
  minify: true,
  format: "esm",
  platform: "browser",
  target: "es2022",
  write: false,
  logLevel: "warning",
});
const minified = Buffer.concat(outputFiles.map((file) => file.contents));
const gzipped = gzipSync(minified, { level: 9 }).length;
console.log(`browser bundle: ${minified.length} B minified, ${gzipped} B gzipped (budget ${BUDGET_BYTES} B)`);
if (gzipped > BUDGET_BYTES) {
  process.exitCode = 1;
}
