/**
 * Hubs as children of this process: real ones, with real signals.
 */
import assert from "node:assert/strict";
import { getEventListeners } from "node:events";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test, type TestContext } from "node:test";
import { ConnectError, DisconnectedError, connect } from "../src/index.js";
import { spawnHub, type SpawnedHub, type SpawnOptions } from "../src/node/index.js";
import { SKIP_WITHOUT_LAB } from "./support/real-hub.js";
import { NEVER, SOON } from "./support/resilient.js";
import { alive, BINARY, executorOf, failure, folder, gone, pidOf, small, Spawned, spawnError, standIn } from "./support/spawned.js";
import { PATIENCE, pause, within } from "./support/time.js";

/** A program that starts the hub, after some code of its own. */
function wrapper(t: TestContext, code: string): [string, string, string] {
  const file = join(folder(t), "wrapper.mjs");
  writeFileSync(
    file,
    `import { spawn } from "node:child_process";
    import { writeSync } from "node:fs";
    ${code}
    const hub = spawn(process.argv[2], process.argv.slice(3), { stdio: "inherit" });
    hub.on("exit", (code) => process.exit(code));`,
  );
  return [process.execPath, file, BINARY];
}

describe("spawned hubs", { skip: SKIP_WITHOUT_LAB, concurrency: 3 }, () => {
  test("start, call, stop", async (t) => {
    const { signal } = new AbortController();
    const spawned = await Spawned.start(t, { signal });
    const { hub } = spawned;
    const pid = pidOf(hub);
    const executor = await executorOf(hub);
    assert.equal(hub.state, "running");
    assert.equal(getEventListeners(signal, "abort").length, 1);
    await Promise.all([hub.stop(), hub.stop()]);
    assert.throws(() => process.kill(pid, 0), { code: "ESRCH" }, "gone, and no zombie");
    await gone("the executor", executor);
    assert.equal(spawned.story, "starting running stopping stopped");
    assert.deepEqual([await hub.closed, hub.state, hub.pid], [{ error: undefined }, "stopped", undefined]);
    assert.equal(getEventListeners(signal, "abort").length, 0);
    assert.ok(spawned.log.some((line) => line.startsWith("ready: ")), "stdout is heard");
    assert.ok(spawned.log.some((line) => line.includes('"stopped"')), "stderr is heard, to the last line");
    assert.ok((await failure(hub.connect())) instanceof ConnectError);
  });

  test("await using, environment, and a port of one's own", async (t) => {
    const first = await Spawned.standIn(t);
    await first.hub.stop();
    const port = Number(new URL(first.hub.url).port);
    let pid = 0;
    {
      await using hub = await spawnHub({ ...small(t), port, env: { TRUNKLINE_TOKEN: "secret" } });
      pid = pidOf(hub);
      assert.equal(hub.url, first.hub.url);
      assert.ok((await failure(hub.connect())) instanceof ConnectError, "it wants the token");
      await using client = await hub.connect({ token: "secret" });
      assert.equal(await client.call("lab.upper", { text: "x" }), "X");
    }
    assert.throws(() => process.kill(pid, 0), { code: "ESRCH" });
  });

  test("no such program", async () => {
    const error = await spawnError(spawnHub({ python: "/no/such/python3" }));
    assert.match(error.message, /cannot start \/no\/such\/python3 in .*ENOENT/u);
    assert.deepEqual([error.exitCode, error.signal, error.stderr], [undefined, undefined, []]);
    assert.equal((error.cause as NodeJS.ErrnoException).code, "ENOENT");
  });

  test("a Python without Trunkline", async () => {
    const error = await spawnError(spawnHub({ command: ["python3", "-m", "no_trunkline"], onLog: () => {} }));
    assert.equal(error.exitCode, 1);
    assert.match(error.message, /ended with exit code 1; its last words:\n.*No module named no_trunkline/u);
    assert.match(error.stderr.join("\n"), /No module named no_trunkline/u);
  });

  test("settings that make no sense to the hub", async (t) => {
    const { args, ...options } = small(t);
    const error = await spawnError(spawnHub({ ...options, args: [...args, "--executors", "no"] }));
    assert.equal(error.exitCode, 2);
    assert.match(error.message, /executors/u);
  });

  test("a module of methods is missing: told at once, and nothing is left", async (t) => {
    const { args, ...options } = small(t);
    const log: string[] = [];
    const starting = spawnHub({
      ...options,
      args: [...args, "--methods", "no_such_module"],
      restart: false,
      onLog: (line) => log.push(line),
    });
    const error = await spawnError(starting);
    assert.equal(error.exitCode, 2);
    assert.match(error.message, /there is no module no_such_module/u);
    const url = /ws:\S+/u.exec(log.find((line) => line.startsWith("trunkline ")) ?? "")?.[0] ?? "";
    assert.ok((await failure(connect(url))) instanceof ConnectError, `${url} is gone`);
  });

  test("ready: false does not wait for the methods", async (t) => {
    const { args, ...options } = small(t);
    const { hub } = await Spawned.start(t, { ...options, args: [...args, "--methods", "no_such_module"], ready: false });
    await using client = await hub.connect();
    await client.call("rpc.ping");
  });

  test("killed: there again on the same port, and its clients go on", async (t) => {
    const spawned = await Spawned.start(t, { restart: { minDelayMs: 500 } });
    const { hub } = spawned;
    const { url } = hub;
    const pid = pidOf(hub);
    await using client = await hub.connect({ reconnect: SOON });
    const open = failure(client.call("debug.sleep", { seconds: 600 }));
    const stream = client.stream("debug.count", { n: 1_000_000, interval_ms: 50 });
    await stream[Symbol.asyncIterator]().next();
    const broken = failure(stream.result);
    process.kill(pid, "SIGKILL");
    const down = await spawned.until("restarting");
    assert.ok(down.state === "restarting");
    assert.deepEqual([down.attempt, down.cause.signal, hub.pid], [1, "SIGKILL", undefined]);
    const queued = client.call("lab.upper", { text: "waited" }, { timeoutMs: PATIENCE });
    assert.equal(await within("the call that waited", queued), "WAITED");
    for (const error of await Promise.all([open, broken])) {
      assert.ok(error instanceof DisconnectedError, String(error));
      assert.equal(error.maybeExecuted, true);
    }
    assert.equal(hub.url, url);
    assert.notEqual(pidOf(hub), pid);
    assert.equal(spawned.story, "starting running restarting starting running");
  });

  test("a hub that fails again and again is given up", async (t) => {
    const broken = join(folder(t), "broken");
    const spawned = await Spawned.standIn(t, {
      code: `if (existsSync(${JSON.stringify(broken)})) { console.error("it is broken"); process.exit(2); }`,
      restart: { minDelayMs: 1, maxDelayMs: 600_000, maxFailures: 2 },
    });
    writeFileSync(broken, "");
    process.kill(pidOf(spawned.hub), "SIGKILL");
    const { error } = await within("it is given up", spawned.hub.closed);
    assert.equal(error?.exitCode, 2);
    assert.match(error?.message ?? "", /ended with exit code 2; its last words:\nit is broken/u);
    assert.equal(spawned.story, "starting running restarting starting restarting starting stopped");
    await spawned.hub.stop();
    assert.equal(spawned.hub.state, "stopped");
  });

  test("restart: false", async (t) => {
    const spawned = await Spawned.standIn(t, { restart: false });
    process.kill(pidOf(spawned.hub), "SIGKILL");
    const { error } = await within("its end", spawned.hub.closed);
    assert.equal(error?.signal, "SIGKILL");
    assert.equal(spawned.story, "starting running stopped");
  });

  test("aborted while it starts: rejects with the reason, and nothing is left", async (t) => {
    const controller = new AbortController();
    const log: string[] = [];
    const starting = spawnHub({
      ...small(t),
      signal: controller.signal,
      onLog: (line) => {
        log.push(line);
        if (line.includes("listening on")) {
          controller.abort(new Error("no longer"));
        }
      },
    });
    assert.match(String(await within("it rejects", failure(starting))), /no longer/u);
    const url = /ws:[^\s"]+/u.exec(log.join("\n"))?.[0] ?? "";
    assert.ok((await failure(connect(url))) instanceof ConnectError, `${url} is gone`);
    assert.equal(getEventListeners(controller.signal, "abort").length, 0);
    const never = spawnHub({ ...small(t), signal: AbortSignal.abort(new Error("before")) });
    assert.match(String(await failure(never)), /before/u);
  });

  for (const state of ["restarting", "starting"] as const) {
    test(`stopped while ${state}`, async (t) => {
      const delays = state === "restarting" ? NEVER : SOON;
      const spawned = await Spawned.standIn(t, { restart: delays });
      process.kill(pidOf(spawned.hub), "SIGKILL");
      await spawned.until(state, state === "starting" ? 2 : 1);
      await within("stop", spawned.hub.stop());
      const { story } = spawned;
      assert.match(story, /stopping stopped$/u);
      await pause(100);
      assert.equal(spawned.story, story, "and no more");
      assert.ok((await failure(spawned.hub.connect())) instanceof ConnectError);
    });
  }

  test("stopped from its own listener, while it starts again", async (t) => {
    const pids: number[] = [];
    const stopped: Promise<void>[] = [];
    let starts = 0;
    const hub: SpawnedHub = await spawnHub({
      ...standIn(t),
      restart: SOON,
      onState: (state) => {
        if (state.state === "running") {
          pids.push(state.pid);
        } else if (state.state === "starting" && (starts += 1) === 2) {
          stopped.push(hub.stop());
        }
      },
    });
    process.kill(pidOf(hub), "SIGKILL");
    await within("its end", hub.closed);
    await Promise.all(stopped);
    assert.deepEqual([pids.length, stopped.length], [1, 1]);
    assert.ok((await failure(hub.connect())) instanceof ConnectError);
  });

  test("a hub that does not obey is killed", async (t) => {
    const { hub } = await Spawned.standIn(t, { stopTimeoutMs: 300 });
    const pid = pidOf(hub);
    process.kill(pid, "SIGSTOP");
    await within("stop", hub.stop());
    assert.throws(() => process.kill(pid, 0), { code: "ESRCH" });
  });

  test("behind a program that keeps SIGTERM to itself it stops in order", async (t) => {
    const spawned = await Spawned.start(t, { command: wrapper(t, 'process.on("SIGTERM", () => {});') });
    await within("stop", spawned.hub.stop());
    assert.ok(spawned.log.some((line) => line.includes('"stopped"')), spawned.log.slice(-5).join("\n"));
  });

  test("two at once know nothing of each other", async (t) => {
    const [one, two] = await Promise.all([Spawned.standIn(t), Spawned.standIn(t, { restart: SOON })]);
    assert.notEqual(one.hub.url, two.hub.url);
    process.kill(pidOf(two.hub), "SIGKILL");
    await two.until("running", 2);
    await one.hub.stop();
    assert.equal(two.hub.state, "running");
    assert.equal(await alive([pidOf(two.hub)]), 1);
    assert.equal(one.story, "starting running stopping stopped");
  });

  test("a chatty hub is not held up, and all of it is heard", async (t) => {
    const heard = { stdout: 0, stderr: 0 };
    const chatter = 'for (let n = 0; n < 4_000; n += 1) for (const fd of [1, 2]) writeSync(fd, "x".repeat(999) + "\\n");';
    const onLog: SpawnOptions["onLog"] = (line, stream) => {
      heard[stream] += Number(line.length === 999);
    };
    const { hub } = await Spawned.standIn(t, { code: chatter, onLog });
    await hub.stop();
    assert.deepEqual(heard, { stdout: 4_000, stderr: 4_000 });
  });
});
