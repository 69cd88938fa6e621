/**
 * Builds dist/: an ESM and a CommonJS bundle of every entry point, and declarations for both.
 */
import { execFileSync } from "node:child_process";
import { readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";
import { MANGLED } from "./internal-names.mjs";

const root = fileURLToPath(new URL("..", import.meta.url));
const dist = join(root, "dist");

rmSync(dist, { recursive: true, force: true });
await Promise.all([
  bundle("esm", "index.js"),
  bundle("cjs", "index.cjs"),
  bundle("esm", "browser.js"),
  bundle("cjs", "browser.cjs"),
  bundle("esm", "msgpack.js"),
  bundle("cjs", "msgpack.cjs"),
  bundle("esm", "opentelemetry.js", "browser"),
  bundle("cjs", "opentelemetry.cjs", "browser"),
  bundle("esm", "node/index.js", "node"),
  bundle("cjs", "node/index.cjs", "node"),
  bundle("esm", "schema/index.js", "browser"),
  bundle("cjs", "schema/index.cjs", "browser"),
  bundle("esm", "testing/index.js", "node"),
  bundle("cjs", "testing/index.cjs", "node"),
  bundle("esm", "tasks/index.js", "browser"),
  bundle("cjs", "tasks/index.cjs", "browser"),
]);
declarations("tsconfig.build.json");
declarations("tsconfig.node.json");
declarationsForCommonJs();

/**
 * @param {"esm" | "cjs"} format
 * @param {string} file
 * @param {"neutral" | "node" | "browser"} platform
 */
async function bundle(format, file, platform = "neutral") {
  await build({
    absWorkingDir: root,
    entryPoints: [join("src", file.replace(/\.c?js$/u, ".ts"))],
    outfile: join(dist, file),
    bundle: true,
    // The entry points for Node, tests, tasks and traces have bundles of their own, which nobody pays for by the byte.
    ...(platform === "neutral" ? { mangleProps: MANGLED } : {}),
    format,
    platform,
    target: "es2022",
    external: ["ws"],
    plugins: [sharedCore(format)],
    // A CommonJS bundle, too, has to `import()` its peer: nothing may happen before connect() is called.
    supported: { "dynamic-import": true },
    sourcemap: true,
    logLevel: "warning",
  });
}

/**
 * What other entry points take from the core is the core's own bundle: two copies would have two of each error class, and
 * `instanceof` would tell them apart.
 *
 * @param {"esm" | "cjs"} format
 * @returns {import("esbuild").Plugin}
 */
function sharedCore(format) {
  const path = format === "esm" ? "../index.js" : "../index.cjs";
  return {
    name: "shared core",
    setup(bundler) {
      // oxlint-disable-next-line require-unicode-regexp -- esbuild reads it in Go, which has no such flag
      bundler.onResolve({ filter: /^\.\.\/index\.js$/ }, () => ({ path, external: true }));
    },
  };
}

/** @param {string} project */
function declarations(project) {
  const packageJson = createRequire(import.meta.url).resolve("typescript/package.json");
  const tsc = join(dirname(packageJson), "bin", "tsc");
  execFileSync(process.execPath, [tsc, "--project", join(root, project)], { stdio: "inherit" });
}

/** A declaration file tells its module format by its extension, so CommonJS needs copies that import each other. */
function declarationsForCommonJs() {
  const files = readdirSync(dist, { recursive: true, encoding: "utf8" });
  for (const file of files.filter((name) => name.endsWith(".d.ts"))) {
    const text = readFileSync(join(dist, file), "utf8");
    const copy = text.replaceAll(/(from\s+|import\()("\.{1,2}\/[^"]+)\.js"/gu, '$1$2.cjs"');
    writeFileSync(join(dist, file.replace(/\.d\.ts$/u, ".d.cts")), copy);
  }
}
