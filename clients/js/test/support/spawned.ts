/**
 * Hubs as children of this process, and what became of them.
 */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { TestContext } from "node:test";
import { promisify } from "node:util";
import { SpawnError, spawnHub, type SpawnedHub, type SpawnedState, type SpawnOptions } from "../../src/node/index.js";
import { REPOSITORY } from "./paths.js";
import { ownPort } from "./ports.js";
import { PATIENCE, pause, within } from "./time.js";

/** The program that the tests start. */
export const BINARY = process.env.TEST_HUB_PROGRAM ?? join(REPOSITORY, ".venv", "bin", "trunkline");
const MODULES = join(REPOSITORY, "tests", "support", "modules");

/** Runs a program; resolves with what it says. */
export const run = promisify(execFile);

/** A folder that is removed after the test. */
export function folder(t: TestContext): string {
  const path = mkdtempSync(join(tmpdir(), "trunkline-spawn-"));
  t.after(() => {
    rmSync(path, { recursive: true, force: true });
  });
  return path;
}

/** Options of a small hub that serves `lab.py`. */
export function small(t: TestContext): SpawnOptions & { readonly args: string[] } {
  const args = ["--packs", "none", "--methods", "lab", "--methods", "trunkline.methods.debug"];
  return {
    command: [BINARY],
    args: [...args, "--executors", "1", "--no-demo", "--data", join(folder(t), "data")],
    cwd: MODULES,
    readyTimeoutMs: PATIENCE,
    onLog: () => {},
  };
}

/**
 * Options of a program that behaves as the process of a hub does, in a twentieth of its time, and serves nothing: it says that it
 * listens and is ready, and ends in order after SIGTERM or when its stdin ends. `code` runs before that.
 */
export function standIn(t: TestContext, code = ""): SpawnOptions {
  const file = join(folder(t), "stand-in.mjs");
  writeFileSync(
    file,
    `import { existsSync, writeSync } from "node:fs";
    import { createServer } from "node:net";
    ${code}
    const stop = () => process.exit(0);
    process.on("SIGTERM", stop);
    process.stdin.on("end", stop).resume();
    const server = createServer((socket) => socket.destroy());
    server.listen(Number(process.argv[process.argv.indexOf("--port") + 1]), "127.0.0.1", () => {
      const { port } = server.address();
      console.log("trunkline 0 listening on ws://127.0.0.1:" + port + "/ws\\nready: nothing");
    });`,
  );
  return { command: [process.execPath, file], readyTimeoutMs: PATIENCE };
}

/** A hub, what became of it, and what it said. */
export class Spawned {
  readonly states: SpawnedState[] = [];
  readonly log: string[] = [];
  hub!: SpawnedHub;
  #wake: (() => void)[] = [];

  static async start(t: TestContext, options: SpawnOptions = {}): Promise<Spawned> {
    const spawned = new Spawned();
    // A port that nobody else is given while it is started again.
    spawned.hub = await spawnHub({ ...small(t), port: await ownPort(), ...spawned.listeners(), ...options });
    t.after(() => spawned.hub.stop());
    return spawned;
  }

  /** The same of a {@link standIn} that runs `code` first. */
  static standIn(t: TestContext, { code, ...options }: SpawnOptions & { readonly code?: string } = {}): Promise<Spawned> {
    return Spawned.start(t, { args: [], cwd: undefined, ...standIn(t, code), ...options });
  }

  listeners(): SpawnOptions {
    return {
      onState: (state) => {
        this.states.push(state);
        for (const wake of this.#wake.splice(0)) {
          wake();
        }
      },
      onLog: (line) => this.log.push(line),
    };
  }

  get story(): string {
    return this.states.map(({ state }) => state).join(" ");
  }

  /** The `n`th time it is in that state. */
  async until(state: SpawnedState["state"], n = 1): Promise<SpawnedState> {
    for (;;) {
      const found = this.states.filter((each) => each.state === state)[n - 1];
      if (found !== undefined) {
        return found;
      }
      await within(
        `${state} for the ${n}. time, after: ${this.story}\n${this.log.slice(-20).join("\n")}`,
        new Promise<void>((resolve) => {
          this.#wake.push(resolve);
        }),
      );
    }
  }
}

/** Whether a process runs; one that only waits for somebody to ask how it ended does not. */
async function isAlive(pid: number): Promise<boolean> {
  try {
    const { stdout } = await run("ps", ["-o", "stat=", "-p", String(pid)]);
    return !stdout.trim().startsWith("Z");
  } catch {
    return false;
  }
}

/** How many of these processes run. */
export async function alive(pids: readonly number[]): Promise<number> {
  const found = await Promise.all(pids.map((pid) => isAlive(pid)));
  return found.filter(Boolean).length;
}

/** Waits until none of these processes runs; kills those that go on. */
export async function gone(what: string, ...pids: number[]): Promise<void> {
  const late = performance.now() + PATIENCE;
  while ((await alive(pids)) > 0) {
    if (performance.now() > late) {
      await run("kill", ["-KILL", ...pids.map(String)]).catch(String);
      assert.fail(`${what} (${pids.join()}) did not go`);
    }
    await pause(20);
  }
}

/** The process that executes its methods. */
export async function executorOf(hub: SpawnedHub): Promise<number> {
  await using client = await hub.connect();
  return (await client.call<{ pid: number }>("lab.where")).pid;
}

/** The process of a hub that is running. */
export function pidOf(hub: SpawnedHub): number {
  assert.ok(hub.pid !== undefined, `no pid while ${hub.state}`);
  return hub.pid;
}

/** What a promise rejects with, in the time that hubs need. */
export async function failure(promise: Promise<unknown>): Promise<unknown> {
  const [outcome] = await within("a rejection", Promise.allSettled([promise]));
  assert.ok(outcome?.status === "rejected", "it was to fail");
  return outcome.reason;
}

/** What a start fails with. */
export async function spawnError(promise: Promise<unknown>): Promise<SpawnError> {
  const error = await failure(promise);
  assert.ok(error instanceof SpawnError, String(error));
  return error;
}
