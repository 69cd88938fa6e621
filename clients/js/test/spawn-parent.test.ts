/**
 * Processes that start a hub with the built package, and their ends. Needs `npm run build`.
 */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { describe, test, type TestContext } from "node:test";
import { PACKAGE } from "./support/paths.js";
import { SKIP_WITHOUT_LAB } from "./support/real-hub.js";
import { alive, gone, run, small, standIn } from "./support/spawned.js";
import { PATIENCE, within } from "./support/time.js";

/** Says its hub's process and that of its executor, while a call is in flight. */
const WORKING = `
  import { spawnHub } from "trunkline/node";
  const hub = await spawnHub({ ...JSON.parse(process.argv[1]), onLog: () => {} });
  const client = await hub.connect();
  const { pid } = await client.call("lab.where");
  const stream = client.stream("debug.count", { n: 1_000_000, interval_ms: 50 });
  stream.result.catch(() => {});
  await stream[Symbol.asyncIterator]().next();
  console.log(JSON.stringify([hub.pid, pid]));`;

/** Says the first line of its hub, which listens by then, but is not ready. */
const STARTING = `
  import { spawnHub } from "trunkline/node";
  await spawnHub({ ...JSON.parse(process.argv[1]), onLog: (line) => console.log(line) });`;

interface Parent {
  readonly pid: number;
  readonly said: string;
  readonly kill: () => void;
}

/** A process that starts a hub; resolves with the first line it says. */
async function parent(t: TestContext, code: string): Promise<Parent> {
  const options = JSON.stringify({ ...small(t), env: { TRUNKLINE_DRAIN_SECONDS: "0.5" } });
  const child = spawn(process.execPath, ["--input-type=module", "--eval", code, options], {
    cwd: PACKAGE,
    stdio: ["ignore", "pipe", "inherit"],
  });
  const kill = (): void => {
    child.kill("SIGKILL");
  };
  t.after(kill);
  const lines: unknown[] = await within("it speaks", once(createInterface({ input: child.stdout }), "line"));
  return { pid: child.pid ?? 0, said: String(lines[0]), kill };
}

/** The processes that a process has started. */
async function childrenOf(pid: number): Promise<number[]> {
  const { stdout } = await run("ps", ["-A", "-o", "pid=,ppid="]);
  const pairs = stdout.split("\n").map((line) => line.trim().split(/\s+/u).map(Number));
  return pairs.flatMap(([child, of]) => (of === pid && child !== undefined ? [child] : []));
}

describe("parents of hubs", { skip: SKIP_WITHOUT_LAB }, () => {
  test("killed: the hub and its executors are gone soon", async (t) => {
    const { kill, said } = await parent(t, WORKING);
    const pids = JSON.parse(said) as [number, number];
    assert.equal(await alive(pids), 2);
    kill();
    await gone("the hub and its executor", ...pids);
  });

  test("killed while the hub starts", async (t) => {
    const { pid, kill } = await parent(t, STARTING);
    const [hub] = await childrenOf(pid);
    assert.ok(hub !== undefined, "there is a hub");
    const pids = [hub, ...(await childrenOf(hub))];
    kill();
    await gone("the hub and its executors", ...pids);
  });

  const USES = {
    module: `import * as node from "trunkline/node"; import * as core from "trunkline";`,
    commonjs: `const node = require("trunkline/node"); const core = require("trunkline");`,
  };
  for (const [type, imports] of Object.entries(USES)) {
    test(`as a ${type} of the built package: one core, and nothing keeps the process after stop()`, async (t) => {
      const code = `${imports}
        const listeners = () => process.eventNames().map((name) => process.listenerCount(name)).join();
        const options = { ...JSON.parse(process.argv[1]), onLog: () => {} };
        const once = () => node.spawnHub(options).then((hub) => hub.stop());
        once().then(async () => {
          const before = listeners();
          const hub = await node.spawnHub(options);
          await hub.stop();
          const error = await hub.connect().catch((reason) => reason);
          console.log(error instanceof core.ConnectError, listeners() === before, Object.keys(node).sort().join());
        });`;
      const args = [`--input-type=${type}`, "--eval", code, JSON.stringify(standIn(t))];
      const { stdout } = await run(process.execPath, args, { cwd: PACKAGE, timeout: PATIENCE });
      assert.equal(stdout.trim(), "true true SpawnError,spawnHub");
    });
  }
});
