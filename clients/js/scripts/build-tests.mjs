/**
 * Compiles test/*.test.ts to build/test/*.mjs: Node 20 cannot run TypeScript. Those that are about messages are there a second
 * time, in which clients and the scripted hub speak MessagePack.
 */
import { readdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";
import { MANGLED } from "./internal-names.mjs";

/** The files that are run over MessagePack as well. */
const PACKED = `
  call defaults disconnect draining errors flow hub misuse oversize overlap publish replay result resume retry scripts serve stream
  subscribe
`;

const root = fileURLToPath(new URL("..", import.meta.url));

rmSync(join(root, "build", "test"), { recursive: true, force: true });
await Promise.all([
  compile(readdirSync(join(root, "test")).filter((name) => name.endsWith(".test.ts")), ".mjs", []),
  compile(PACKED.trim().split(/\s+/u).map((name) => `${name}.test.ts`), ".msgpack.mjs", [packedByDefault()]),
]);

/**
 * @param {readonly string[]} names
 * @param {string} extension
 * @param {import("esbuild").Plugin[]} plugins
 */
async function compile(names, extension, plugins) {
  await build({
    absWorkingDir: root,
    entryPoints: names.map((name) => `test/${name}`),
    outdir: "build/test",
    outExtension: { ".js": extension },
    plugins,
    bundle: true,
    mangleProps: MANGLED,
    packages: "external",
    format: "esm",
    platform: "node",
    target: "node20",
    sourcemap: "inline",
    logLevel: "warning",
  });
}

/**
 * Where nobody names a codec it is MessagePack: in the settings of clients, and in what the tests' own hub speaks.
 *
 * @returns {import("esbuild").Plugin}
 */
function packedByDefault() {
  const path = join(root, "test", "support", "packed.ts");
  return {
    name: "MessagePack by default",
    setup(bundler) {
      // oxlint-disable-next-line require-unicode-regexp -- esbuild reads it in Go, which has no such flag
      bundler.onResolve({ filter: /^\.\/(?:support\/)?(?:codec|encode)\.js$/ }, ({ importer }) =>
        importer === join(root, "src", "settings.ts") || importer.startsWith(join(root, "test")) ? { path } : undefined,
      );
    },
  };
}
