// Builds a project by one of the bundlers: `node bundle.mjs vite|webpack|metro FOLDER`. The tools are this folder's, all else is
// the project's.
import { mkdirSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const [tool, folder] = process.argv.slice(2);

async function vite() {
  const { build } = await import("vite");
  await build({
    root: folder,
    configFile: false,
    base: "./",
    logLevel: "warn",
    worker: { format: "es" },
    build: { outDir: "vite", rollupOptions: { input: join(folder, "page.html") } },
  });
}

async function webpack() {
  const { default: bundle } = await import("webpack");
  const common = { mode: "production", context: folder, experiments: { outputModule: true } };
  const page = { entry: "./page.js", target: "web", output: { path: join(folder, "webpack"), filename: "page.js", publicPath: "auto" } };
  const program = { entry: "./main.js", target: "node", output: { path: join(folder, "webpack"), filename: "main.mjs", module: true } };
  const stats = await new Promise((resolve, reject) => {
    bundle([page, program].map((each) => ({ ...common, ...each })), (error, done) => (error ? reject(error) : resolve(done)));
  });
  const { errors, warnings } = stats.toJson({ all: false, errors: true, warnings: true });
  for (const { message } of [...errors, ...warnings]) {
    console.error(message);
  }
  process.exitCode = errors.length > 0 ? 1 : 0;
}

// As React Native does it: with its configuration, and with ws at hand, which its tools bring along.
async function metro() {
  const require = createRequire(import.meta.url);
  const { runBuild } = require("metro");
  const { getDefaultConfig, mergeConfig } = require("@react-native/metro-config");
  const modules = fileURLToPath(new URL("node_modules", import.meta.url));
  const preset = JSON.stringify(require.resolve("@react-native/babel-preset"));
  writeFileSync(join(folder, "babel.config.cjs"), `module.exports = { presets: [${preset}] };\n`);
  mkdirSync(join(folder, "metro"));
  for (const unstable_enablePackageExports of [true, false]) {
    const config = mergeConfig(getDefaultConfig(folder), {
      projectRoot: folder,
      watchFolders: [folder, modules],
      maxWorkers: 1,
      reporter: { update: ({ error }) => error && console.error(error) },
      resolver: { nodeModulesPaths: [modules], unstable_enablePackageExports },
      serializer: { getModulesRunBeforeMainModule: () => [] },
    });
    const out = join(folder, "metro", unstable_enablePackageExports ? "exports.js" : "main.js");
    await runBuild(config, { entry: "native.js", platform: "ios", dev: false, minify: false, out });
  }
}

await { vite, webpack, metro }[tool]();
process.exit();
