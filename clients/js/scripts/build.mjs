/**
 * Builds dist/: one ESM and one CommonJS bundle, and declarations for both.
 */
import { execFileSync } from "node:child_process";
import { readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const root = fileURLToPath(new URL("..", import.meta.url));
const dist = join(root, "dist");

rmSync(dist, { recursive: true, force: true });
await Promise.all([bundle("esm", "index.js"), bundle("cjs", "index.cjs")]);
declarations();
declarationsForCommonJs();

/**
 * @param {"esm" | "cjs"} format
 * @param {string} file
 */
async function bundle(format, file) {
  await build({
    absWorkingDir: root,
    entryPoints: ["src/index.ts"],
    outfile: join(dist, file),
    bundle: true,
    format,
    platform: "neutral",
    target: "es2022",
    external: ["ws"],
    // A CommonJS bundle, too, has to `import()` its peer: nothing may happen before connect() is called.
    supported: { "dynamic-import": true },
    sourcemap: true,
    logLevel: "warning",
  });
}

function declarations() {
  const packageJson = createRequire(import.meta.url).resolve("typescript/package.json");
  const tsc = join(dirname(packageJson), "bin", "tsc");
  execFileSync(process.execPath, [tsc, "--project", join(root, "tsconfig.build.json")], { stdio: "inherit" });
}

/** A declaration file tells its module format by its extension, so CommonJS needs copies that import each other. */
function declarationsForCommonJs() {
  for (const file of readdirSync(dist).filter((name) => name.endsWith(".d.ts"))) {
    const text = readFileSync(join(dist, file), "utf8");
    const copy = text.replaceAll(/(from\s+|import\()("\.\/[^"]+)\.js"/gu, '$1$2.cjs"');
    writeFileSync(join(dist, file.replace(/\.d\.ts$/u, ".d.cts")), copy);
  }
}
