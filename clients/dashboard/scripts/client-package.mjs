/**
 * Puts the JavaScript client where the hub serves it: as a package for npm (`/client.tgz`), and as one module for a page
 * without a bundler (`/client.js`).
 */
import { execFileSync } from "node:child_process";
import { copyFileSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { built } from "./built.mjs";

const client = fileURLToPath(new URL("../../js", import.meta.url));


const folder = mkdtempSync(join(tmpdir(), "trunkline-pack-"));
try {
  // It was built just now: its own scripts would build it again.
  execFileSync("npm", ["pack", "--ignore-scripts", "--silent", "--pack-destination", folder], { cwd: client });
  const [archive = ""] = readdirSync(folder);
  copyFileSync(join(folder, archive), join(built, "client.tgz"));
} finally {
  rmSync(folder, { recursive: true });
}

const module = readFileSync(join(client, "dist", "browser.js"), "utf8").replace(/\n\/\/# sourceMappingURL=.*\n?$/u, "\n");
writeFileSync(join(built, "client.js"), module);
writeFileSync(join(built, "client.js.gz"), gzipSync(module, { level: 9 }));
