/**
 * One process of a hub: started, heard, ended.
 */
import { spawn, type ChildProcess } from "node:child_process";
import type { Readable } from "node:stream";
import { safely } from "../callbacks.js";
import { describeEnd, SpawnError, type ProcessEnd } from "./spawn-error.js";
import { Greeting } from "./greeting.js";
import { LastLines, LineSplitter } from "./lines.js";
import type { LogStream, Settings } from "./options.js";

const LAST_LINES = 50;

/** How long after its end a process's output may stay open, held by whoever it started, in milliseconds. */
const OUTPUT_GRACE_MS = 1_000;

/** A hub's process. */
export class HubProcess {
  /** Resolves when it is gone and what it said is read; never rejects. */
  readonly ended: Promise<ProcessEnd>;
  readonly #settings: Settings;
  readonly #child: ChildProcess;
  readonly #stderr = new LastLines(LAST_LINES);
  readonly #up: Promise<string>;
  #stopped: Promise<void> | undefined;

  /**
   * @param port where to listen; 0 for a free one.
   * @throws SpawnError where the platform refuses at once. Otherwise {@link up} tells.
   */
  constructor(settings: Settings, port: number) {
    this.#settings = settings;
    this.#child = spawnChild(settings, port);
    this.ended = endOf(this.#child);
    this.#up = new Promise((resolve) => {
      const greeting = new Greeting(settings.ready);
      this.#read("stdout", (line) => {
        const url = greeting.hear(line);
        if (url !== undefined) {
          resolve(url);
        }
      });
    });
    this.#read("stderr", (line) => {
      this.#stderr.add(line);
    });
  }

  /**
   * Waits until it is up.
   *
   * @returns its URL, and its process id.
   * @throws SpawnError if it ends before that, or is not up in time; in the latter case it is still there.
   */
  async up(): Promise<{ readonly url: string; readonly pid: number }> {
    const { readyTimeoutMs, ready } = this.#settings;
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(() => {
        const what = ready ? "ready" : "listening";
        reject(new SpawnError(`the hub was not ${what} within ${readyTimeoutMs} ms`, this.#stderr.all));
      }, readyTimeoutMs);
    });
    const died = this.ended.then((end) => {
      throw this.error(end);
    });
    try {
      const url = await Promise.race([this.#up, late, died]);
      // It spoke, so it has one.
      return { url, pid: this.#child.pid as number };
    } finally {
      clearTimeout(timer);
    }
  }

  /** Its end as an error. */
  error(end: ProcessEnd): SpawnError {
    return end.cause === undefined
      ? new SpawnError(`the hub ${describeEnd(end)}`, this.#stderr.all, end)
      : cannotStart(this.#settings, end.cause);
  }

  /** Asks it to end (SIGTERM), kills it if it takes too long, and resolves when it is gone. */
  stop(): Promise<void> {
    this.#stopped ??= this.#stop();
    return this.#stopped;
  }

  async #stop(): Promise<void> {
    this.#child.kill("SIGTERM");
    // This reaches the hub even where the program that started it keeps the signal to itself.
    this.#child.stdin?.end();
    const timer = setTimeout(() => {
      killGroup(this.#child);
    }, this.#settings.stopTimeoutMs);
    await this.ended;
    clearTimeout(timer);
  }

  #read(name: LogStream, hear: (line: string) => void): void {
    const splitter = new LineSplitter((line) => {
      hear(line);
      safely(() => {
        this.#settings.onLog(line, name);
      });
    });
    // Null where there were no descriptors left for a pipe.
    const stream: Readable | null | undefined = this.#child[name];
    stream
      ?.setEncoding("utf8")
      .on("data", (text: string) => {
        splitter.push(text);
      })
      .on("close", () => {
        splitter.end();
      });
  }
}

function spawnChild(settings: Settings, port: number): ChildProcess {
  const { program, args, cwd, env } = settings;
  try {
    return spawn(program, [...args, "--port", String(port), "--stop-with-stdin"], {
      cwd,
      env,
      // Nothing is ever written to its stdin: the hub stops when that ends, as it does when this process does.
      stdio: "pipe",
      // A session of its own, so that Ctrl-C reaches this process only, which decides.
      detached: true,
    });
  } catch (error) {
    throw error instanceof TypeError ? error : cannotStart(settings, error);
  }
}

function cannotStart({ program, cwd }: Settings, cause: unknown): SpawnError {
  const what = `cannot start ${program} in ${cwd ?? process.cwd()}: ${String(cause)}`;
  return new SpawnError(what, [], { exitCode: null, signal: null, cause });
}

/** With its group: SIGKILL is not passed on by a program that only starts the hub, as `uv run` does. */
function killGroup({ pid }: ChildProcess): void {
  if (pid !== undefined) {
    try {
      process.kill(-pid, "SIGKILL");
    } catch {
      // Nobody is left to be killed: `exit` is on its way.
    }
  }
}

function endOf(child: ChildProcess): Promise<ProcessEnd> {
  return new Promise((resolve) => {
    child.on("error", (cause) => {
      // Other errors are of signals to a process that is going already.
      if (child.pid === undefined) {
        resolve({ exitCode: null, signal: null, cause });
      }
    });
    child.once("exit", (exitCode, signal) => {
      const timer = setTimeout(() => {
        // Where this process stood still, what was said meanwhile is read first: in this turn of the loop, after its timers.
        setImmediate(() => {
          child.stdout?.destroy();
          child.stderr?.destroy();
        });
      }, OUTPUT_GRACE_MS);
      child.once("close", () => {
        clearTimeout(timer);
        resolve({ exitCode, signal });
      });
    });
    child.stdin?.on("error", () => {
      // Its other end is gone, and with it the process: `exit` tells.
    });
  });
}
