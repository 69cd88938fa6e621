/**
 * Puts a `.gz` next to every built file that gets smaller by it, so that the hub does not compress anything itself.
 */
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { built } from "./built.mjs";

const COMPRESSIBLE = /\.(?:html|js|css|svg|txt)$/u;

for (const name of readdirSync(built, { recursive: true, encoding: "utf8" }).filter((file) => COMPRESSIBLE.test(file))) {
  const text = readFileSync(join(built, name));
  writeFileSync(join(built, `${name}.gz`), gzipSync(text, { level: 9 }));
}
