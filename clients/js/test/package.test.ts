/**
 * The built package, as its users get it. Needs `npm run build`.
 */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { promisify } from "node:util";
import { PACKAGE } from "./support/paths.js";

const run = promisify(execFile);

const NAMES = [
  "AuthenticationError",
  "CancelledError",
  "ConnectError",
  "DisconnectedError",
  "ERROR_CODES",
  "OverloadedError",
  "ProtocolError",
  "RpcError",
  "TimeoutError",
  "TrunklineError",
  "UsageError",
  "connect",
  "createClient",
  "isHubError",
].join();

/** A folder whose only installed package is a copy of this one: `ws` cannot be found from there. */
function isolated(t: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), "trunkline-js-"));
  t.after(() => {
    rmSync(folder, { recursive: true });
  });
  for (const part of ["dist", "package.json"]) {
    cpSync(join(PACKAGE, part), join(folder, "node_modules", "trunkline", part), { recursive: true });
  }
  return folder;
}

async function output(folder: string, file: string, code: string): Promise<string> {
  writeFileSync(join(folder, file), code);
  const { stdout } = await run(process.execPath, [file], { cwd: folder });
  return stdout.trim();
}

test("import gives the whole API", async (t) => {
  const code = `console.log(Object.keys(await import("trunkline")).sort().join())`;
  assert.equal(await output(isolated(t), "main.mjs", code), NAMES);
});

test("require gives the whole API", async (t) => {
  const code = `console.log(Object.keys(require("trunkline")).sort().join())`;
  assert.equal(await output(isolated(t), "main.cjs", code), NAMES);
});

test("MessagePack is a path of its own, which the client does not load", async (t) => {
  const folder = isolated(t);
  assert.equal(await output(folder, "main.mjs", `console.log((await import("trunkline/msgpack")).msgpack.subprotocol)`), "trunkline.v1+msgpack");
  assert.equal(await output(folder, "main.cjs", `console.log(require("trunkline/msgpack").msgpack.subprotocol)`), "trunkline.v1+msgpack");
  for (const file of ["index.js", "browser.js"]) {
    assert.doesNotMatch(readFileSync(join(PACKAGE, "dist", file), "utf8"), /\+msgpack/u);
  }
});

/** A refusal by a schema, of a package that `get` loads. */
function refused(get: (name: string) => string): string {
  return `
    const { RpcError } = ${get("trunkline")}, { checked } = ${get("trunkline/schema")};
    const schema = { "~standard": { version: 1, vendor: "test", validate: () => ({ issues: [{ message: "no" }] }) } };
    checked({ params: schema }, () => 1)({}).catch((error) => console.log(error instanceof RpcError, error.code));`;
}

test("trunkline/schema shares the core's errors, and is no part of it", async (t) => {
  const folder = isolated(t);
  assert.equal(await output(folder, "main.mjs", refused((name) => `await import("${name}")`)), "true -32602");
  assert.equal(await output(folder, "main.cjs", refused((name) => `require("${name}")`)), "true -32602");
  assert.doesNotMatch(readFileSync(join(PACKAGE, "dist", "browser.js"), "utf8"), /~standard/u);
});

test("browsers and React Native are given the same API, without what is only for Node", async (t) => {
  const folder = isolated(t);
  const code = `
    console.log(Object.keys(await import("trunkline")).sort().join());
    console.log(import.meta.resolve("trunkline").split("/").pop());`;
  writeFileSync(join(folder, "main.mjs"), code);
  for (const condition of ["browser", "react-native"]) {
    const { stdout } = await run(process.execPath, [`--conditions=${condition}`, "main.mjs"], { cwd: folder });
    assert.equal(stdout, `${NAMES}\nbrowser.js\n`, condition);
  }
  const built = readFileSync(join(PACKAGE, "dist", "browser.js"), "utf8");
  assert.doesNotMatch(built, /Authorization|terminate|import\(/u);
  assert.equal(await output(folder, "main.cjs", `console.log(Object.keys(require("./node_modules/trunkline/dist/browser.cjs")).sort().join())`), NAMES);
});

test("trunkline/tasks is by itself: it takes nothing of the core along", async (t) => {
  const folder = isolated(t);
  const code = `console.log(Object.keys(await import("trunkline/tasks")).sort().join())`;
  const names = "TaskCancelledError,TaskError,TaskTimeoutError,TaskUnavailableError,createTaskClient";
  assert.equal(await output(folder, "main.mjs", code), names);
  assert.equal(await output(folder, "main.cjs", `console.log(Object.keys(require("trunkline/tasks")).sort().join())`), names);
  const built = readFileSync(join(PACKAGE, "dist", "tasks", "index.js"), "utf8");
  assert.doesNotMatch(built, /WebSocket|import\s*[{(*"]|node:/u);
});

test("trunkline/opentelemetry is by itself: it takes neither the core nor OpenTelemetry along", async (t) => {
  const folder = isolated(t);
  const code = `console.log(Object.keys(await import("trunkline/opentelemetry")).sort().join())`;
  assert.equal(await output(folder, "main.mjs", code), "traced,tracedHandler");
  assert.equal(await output(folder, "main.cjs", code.replace("await import", "require")), "traced,tracedHandler");
  const built = readFileSync(join(PACKAGE, "dist", "opentelemetry.js"), "utf8");
  assert.doesNotMatch(built, /WebSocket|import\s*[{(*"]|node:/u);
});

for (const [file, get] of [
  ["main.mjs", 'import("trunkline")'],
  ["main.cjs", 'Promise.resolve(require("trunkline"))'],
] as const) {
  test(`without any WebSocket, ${file} is told what to do`, async (t) => {
    const code = `
      delete globalThis.WebSocket;
      ${get}.then(({ connect }) => connect("ws://127.0.0.1:1/ws")).catch((error) => {
        console.log(error.name + ": " + error.message);
      });`;
    assert.equal(await output(isolated(t), file, code), "ConnectError: cannot connect to ws://127.0.0.1:1/ws: no WebSocket here: npm i ws, or Node 22");
  });

  test(`in ${file} ws is found where it is installed`, async (t) => {
    const folder = isolated(t);
    const ws = join(folder, "node_modules", "ws");
    cpSync(join(PACKAGE, "..", "node_modules", "ws"), ws, { recursive: true });
    const code = `
      delete globalThis.WebSocket;
      ${get}.then(({ connect }) => connect("ws://127.0.0.1:1/ws")).catch((error) => {
        console.log(error.name, error.cause.code);
      });`;
    assert.equal(await output(folder, file, code), "ConnectError ECONNREFUSED");
  });
}
