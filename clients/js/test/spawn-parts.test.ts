/**
 * What a spawned hub is made of, without a hub.
 */
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import { HubProcess } from "../src/node/hub-process.js";
import { describeEnd, SpawnError } from "../src/node/spawn-error.js";
import { Greeting } from "../src/node/greeting.js";
import { LastLines, LineSplitter, MAX_LINE } from "../src/node/lines.js";
import { settingsOf, type SpawnOptions } from "../src/node/options.js";
import { Restarts } from "../src/node/restarts.js";
import { folder, standIn } from "./support/spawned.js";
import { PATIENCE, stoppedClock, until, within } from "./support/time.js";

function linesOf(...pieces: string[]): string[] {
  const lines: string[] = [];
  const splitter = new LineSplitter((line) => lines.push(line));
  for (const piece of pieces) {
    splitter.push(piece);
  }
  splitter.end();
  splitter.end();
  return lines;
}

describe("lines", () => {
  const TEXT = "one\r\n\ntwo\nthree";
  const LINES = ["one", "", "two", "three"];

  test("however the text is cut", () => {
    for (let at = 0; at <= TEXT.length; at += 1) {
      assert.deepEqual(linesOf(TEXT.slice(0, at), TEXT.slice(at)), LINES, `cut at ${at}`);
    }
    assert.deepEqual(linesOf(...TEXT.split(/(?:)/u)), LINES);
    assert.deepEqual(linesOf("a\n"), ["a"]);
    assert.deepEqual(linesOf(""), []);
  });

  test("an endless line is given in parts, and nothing of it is lost", () => {
    const long = "x".repeat(2 * MAX_LINE + 10);
    for (const parts of [linesOf(`${long}\nend`), linesOf(...long.match(/.{1,1000}/gu) ?? [], "\nend")]) {
      assert.deepEqual(
        parts.map(({ length }) => length),
        [MAX_LINE, MAX_LINE, 10, 3],
      );
    }
  });

  test("only the last few are remembered", () => {
    const last = new LastLines(2);
    for (const line of ["a", "b", "c"]) {
      last.add(line);
    }
    assert.deepEqual(last.all, ["b", "c"]);
  });
});

describe("the greeting", () => {
  const SAID = ["trunkline 0.1.0 listening on ws://127.0.0.1:8765/ws", "ready: 2 executors, 7 methods"] as const;

  test("up is ready, or listening", () => {
    const untilReady = new Greeting(true);
    const untilListening = new Greeting(false);
    assert.equal(untilReady.hear(SAID[0]), undefined);
    assert.equal(untilReady.hear(SAID[1]), "ws://127.0.0.1:8765/ws");
    assert.equal(untilListening.hear("a line"), undefined);
    assert.equal(untilListening.hear(SAID[0]), "ws://127.0.0.1:8765/ws");
  });

  test("only the hub's own words count", () => {
    const greeting = new Greeting(true);
    assert.equal(greeting.hear("ready: to go"), undefined, "not before it listens");
    assert.equal(greeting.hear("it is trunkline 1 listening on ws://evil:1/ws"), undefined);
    assert.equal(greeting.hear("trunkline 0.1.0 listening on unix:/tmp/hub"), undefined);
    assert.equal(greeting.hear(SAID[0]), undefined);
    assert.equal(greeting.hear("not ready: yet"), undefined);
  });
});

describe("restarts", () => {
  const LIMITS = { minMs: 100, maxMs: 1_000, maxFailures: 6 };

  test("wait longer and longer, up to a limit, and are given up", () => {
    const restarts = new Restarts(LIMITS, () => 1);
    const delays = Array.from({ length: 7 }, () => restarts.next(0)?.delayMs);
    assert.deepEqual(delays, [100, 200, 400, 800, 1_000, 1_000, undefined]);
  });

  test("a hub that was up for long begins anew", () => {
    const restarts = new Restarts({ ...LIMITS, maxFailures: 2 }, () => 0.5);
    assert.deepEqual(restarts.next(999), { attempt: 1, delayMs: 50 });
    assert.deepEqual(restarts.next(999), { attempt: 2, delayMs: 100 });
    assert.deepEqual(restarts.next(1_000), { attempt: 1, delayMs: 50 });
    assert.deepEqual(restarts.next(0), { attempt: 2, delayMs: 100 });
    assert.equal(restarts.next(0), undefined);
  });
});

describe("options", () => {
  test("name the program", () => {
    const { program, args } = settingsOf({ args: ["--methods", "mine"] });
    assert.deepEqual([program, ...args], ["python3", "-m", "trunkline.cli", "serve", "--strict", "--methods", "mine"]);
    assert.equal(settingsOf({ python: "/venv/bin/python" }).program, "/venv/bin/python");
    const wrapped = settingsOf({ command: ["uv", "run", "trunkline"] });
    assert.deepEqual([wrapped.program, ...wrapped.args], ["uv", "run", "trunkline", "serve", "--strict"]);
    assert.deepEqual(settingsOf({ ready: false }).args, ["-m", "trunkline.cli", "serve"]);
  });

  test("add to the environment, and take from it", () => {
    const { env } = settingsOf({ env: { TRUNKLINE_TOKEN: "t", PATH: undefined } });
    assert.deepEqual([env.TRUNKLINE_TOKEN, env.PATH, env.HOME], ["t", undefined, process.env.HOME]);
  });

  const NONSENSE: readonly (readonly [RegExp, SpawnOptions])[] = [
    [/port has to be/u, { port: -1 }],
    [/port has to be/u, { port: 1.5 }],
    [/port has to be/u, { port: 65_536 }],
    [/readyTimeoutMs/u, { readyTimeoutMs: 0 }],
    [/stopTimeoutMs/u, { stopTimeoutMs: Number.NaN }],
    [/maxFailures/u, { restart: { maxFailures: 0 } }],
    [/minDelayMs/u, { restart: { minDelayMs: -1 } }],
    [/exclude each other/u, { python: "python3", command: ["trunkline"] }],
    [/--port cannot/u, { args: ["--port", "1"] }],
    [/--port=1 cannot/u, { args: ["--port=1"] }],
    [/--uds cannot/u, { args: ["--methods", "m", "--uds", "/tmp/hub"] }],
  ];
  for (const [message, options] of NONSENSE) {
    test(`without sense: ${JSON.stringify(options)}`, () => {
      assert.throws(() => settingsOf(options), { name: "TypeError", message });
    });
  }
});

test("errors say how it ended, and what it said last", () => {
  const end = { exitCode: 2, signal: null };
  const error = new SpawnError(`the hub ${describeEnd(end)}`, ["a", "b"], end);
  assert.equal(error.message, "the hub ended with exit code 2; its last words:\na\nb");
  assert.deepEqual([error.exitCode, error.signal, error.stderr], [2, undefined, ["a", "b"]]);
  assert.equal(describeEnd({ exitCode: null, signal: "SIGKILL" }), "was ended by SIGKILL");
});

/** Whether there is a process, or what is left of one that nobody has asked how it ended. */
function isThere(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
}

/** Stands still until there is such a file: no event comes to this process meanwhile. */
function standStillUntil(file: string): void {
  const giveUp = Date.now() + PATIENCE;
  while (!existsSync(file)) {
    assert.ok(Date.now() < giveUp, `no ${file}`);
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 5);
  }
}

test("the last words of a hub are heard, though this process stands still for longer than it waits for them", async (t) => {
  const pass = stoppedClock(t);
  const said = join(folder(t), "said");
  // One that has its output from it, and speaks when it is gone.
  const heir = `import { writeFileSync, writeSync } from "node:fs";
    const look = setInterval(() => {
      if (process.ppid !== Number(process.argv[1])) {
        writeSync(2, "the last words\\n");
        writeFileSync(process.argv[2], "");
        clearInterval(look);
      }
    }, 1);`;
  const code = `import { spawn } from "node:child_process";
    const args = ["--input-type=module", "--eval", ${JSON.stringify(heir)}, String(process.pid), ${JSON.stringify(said)}];
    spawn(process.execPath, args, { stdio: "inherit" });`;
  const log: string[] = [];
  const hub = new HubProcess(settingsOf({ ...standIn(t, code), onLog: (line) => log.push(line) }), 0);
  const { pid } = await hub.up();
  process.kill(pid, "SIGKILL");
  await within("its end is noticed", until(() => !isThere(pid)));
  standStillUntil(said);
  pass(1_000);
  await within("its end", hub.ended);
  assert.equal(log.at(-1), "the last words");
});
