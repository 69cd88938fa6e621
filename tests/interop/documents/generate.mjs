// Compiles what @open-rpc/generator makes of a document: node generate.mjs openrpc.json folder
import { execFileSync } from "node:child_process";
import { existsSync, symlinkSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";

const require = createRequire(import.meta.url);
const [document, folder] = process.argv.slice(2);
const modules = join(dirname(import.meta.filename), "..", "node_modules");
const config = join(folder, "generator.json");
const component = { type: "client", language: "typescript", name: "hub" };
writeFileSync(config, JSON.stringify({ openrpcDocument: document, outDir: folder, components: [component] }));

const run = (script, ...args) => execFileSync(process.execPath, [script, ...args], { cwd: folder, encoding: "utf8" });
run(require.resolve("@open-rpc/generator/build/cli.js"), "generate", "-c", config);
const project = join(folder, "client", "typescript");
if (!existsSync(join(folder, "node_modules"))) symlinkSync(modules, join(folder, "node_modules"));
let problems = [];
try {
  run(require.resolve("typescript/bin/tsc"), "-p", project, "--noEmit", "--skipLibCheck");
} catch (error) {
  problems = error.stdout.trim().split("\n");
}
console.log(JSON.stringify({ what: "compiled", problems }));
