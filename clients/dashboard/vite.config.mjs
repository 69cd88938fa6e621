/**
 * Builds the page into the hub's package, from where the hub serves it at `/`.
 *
 * Everything is a file of its own (no inline script, style or data: URL), so that the hub's Content-Security-Policy can
 * forbid the rest; addresses are relative, so that it works below a proxy's path, too.
 */
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { defineConfig } from "vite";

const SHIPPED = ["preact", "@preact/signals", "@preact/signals-core", "uplot", "@fontsource-variable/inter"];

/** What the licences of the libraries in the page ask for: their text goes along. */
const licenses = {
  name: "licenses",
  /** @this {import("vite").Rolldown.PluginContext} */
  generateBundle() {
    const texts = SHIPPED.map((name) => {
      const file = fileURLToPath(new URL(`../node_modules/${name}/LICENSE`, import.meta.url));
      return `${name}\n\n${readFileSync(file, "utf8").trim()}\n`;
    });
    this.emitFile({ type: "asset", fileName: "licenses.txt", source: texts.join(`\n${"-".repeat(80)}\n\n`) });
  },
};

export default defineConfig({
  base: "./",
  plugins: [licenses],
  oxc: { jsx: { runtime: "automatic", importSource: "preact" } },
  build: {
    outDir: fileURLToPath(new URL("../../server/trunkline/edge/http/static", import.meta.url)),
    emptyOutDir: true,
    target: "es2022",
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    reportCompressedSize: false,
  },
  logLevel: "warn",
});
