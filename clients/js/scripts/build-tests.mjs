/**
 * Compiles test/*.test.ts to build/test/*.mjs: Node 20 cannot run TypeScript.
 */
import { readdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";
import { MANGLED } from "./internal-names.mjs";

const root = fileURLToPath(new URL("..", import.meta.url));
const tests = readdirSync(join(root, "test")).filter((name) => name.endsWith(".test.ts"));

rmSync(join(root, "build", "test"), { recursive: true, force: true });
await build({
  absWorkingDir: root,
  entryPoints: tests.map((name) => `test/${name}`),
  outdir: "build/test",
  outExtension: { ".js": ".mjs" },
  bundle: true,
  mangleProps: MANGLED,
  packages: "external",
  format: "esm",
  platform: "node",
  target: "node20",
  sourcemap: "inline",
  logLevel: "warning",
});
