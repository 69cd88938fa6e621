/**
 * Puts the JavaScript client where the hub serves it: as a package for npm (`/client.tgz`), and as modules for a page
 * without a bundler (`/client.js`, `/client-msgpack.js`).
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

for (const [source, name] of Object.entries({ "browser.js": "client.js", "msgpack.js": "client-msgpack.js" })) {
  const module = readFileSync(join(client, "dist", source), "utf8").replace(/\n\/\/# sourceMappingURL=.*\n?$/u, "\n");
  writeFileSync(join(built, name), module);
  writeFileSync(join(built, `${name}.gz`), gzipSync(module, { level: 9 }));
}
