/**
 * Reports what the client costs a browser, minified and gzipped, and fails above the budget.
 *
 * Measured is what a production bundler makes of `import { connect } from "trunkline"`: all that can be reached from it.
 * Bundling by the "browser" condition of package.json also proves that what browsers get needs nothing they lack: an import
 * would not resolve.
 */
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { build } from "esbuild";

const BUDGET_BYTES = 16_000;

const root = fileURLToPath(new URL("..", import.meta.url));
const { outputFiles } = await build({
  absWorkingDir: root,
  stdin: { contents: 'export { connect } from "trunkline";', resolveDir: root },
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
