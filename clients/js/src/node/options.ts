/**
 * How to start a hub: what may be asked, checked and complete.
 */
import { MAX_TIMER_MS, checkPositive } from "../timeouts.js";
import type { SpawnError } from "./spawn-error.js";

/** Where a line of the hub's output came from. */
export type LogStream = "stdout" | "stderr";

/** What becomes of a hub that ended by itself. */
export interface RestartPolicy {
  /** Default 500. It waits a random part of `minDelayMs * 2 ** n`. */
  readonly minDelayMs?: number | undefined;
  /** Default 20000. The longest wait; a hub that was up for so long counts as well again, and `n` begins at 0. */
  readonly maxDelayMs?: number | undefined;
  /** After so many ends in a row, none of them after a run of `maxDelayMs`, it is given up. Default 10. */
  readonly maxFailures?: number | undefined;
}

/** What became of the hub. */
export type SpawnedState =
  | { readonly state: "starting" }
  | { readonly state: "running"; readonly url: string; readonly pid: number }
  | {
      readonly state: "restarting";
      /** Counts from 1 for every hub that had been up for long enough. */
      readonly attempt: number;
      /** When it is started, in milliseconds from now. */
      readonly delayMs: number;
      /** Why there is none. */
      readonly cause: SpawnError;
    }
  | { readonly state: "stopping" }
  | ({ readonly state: "stopped" } & SpawnEnd);

/** How it ended for good. */
export interface SpawnEnd {
  /** Why it was given up; undefined if it was asked to stop. */
  readonly error: SpawnError | undefined;
}

/** Options of {@link spawnHub}. */
export interface SpawnOptions {
  /** The Python that has Trunkline installed. Default `"python3"`. */
  readonly python?: string | undefined;
  /** The program before `serve`, instead of `python -m trunkline.cli`: `["uv", "run", "trunkline"]`. No shell reads it. */
  readonly command?: readonly [string, ...string[]] | undefined;
  /** What follows `serve`: `["--methods", "my_methods"]`. The port is an option of its own. */
  readonly args?: readonly string[] | undefined;
  /** Where it runs; modules of `--methods` are found there. Default: here. */
  readonly cwd?: string | undefined;
  /** Added to this process's environment; undefined leaves a variable out. */
  readonly env?: Readonly<Record<string, string | undefined>> | undefined;
  /** 0 (default) for a free one, which is kept when the hub is started again. */
  readonly port?: number | undefined;
  /**
   * Whether to wait until its methods are loaded (default), or only until it accepts connections. Where it waits, a
   * module that cannot be loaded ends the hub (`--strict`; `--no-strict` among `args` serves the others meanwhile).
   */
  readonly ready?: boolean | undefined;
  /** How long that may take, in milliseconds. Default 60000. */
  readonly readyTimeoutMs?: number | undefined;
  /** How long it may take to stop before it is killed, in milliseconds. Default 20000: what it needs itself, and more. */
  readonly stopTimeoutMs?: number | undefined;
  /** Whether, and how soon, it is started again when it ended by itself. Default true. */
  readonly restart?: boolean | RestartPolicy | undefined;
  /** Aborting it stops the hub, even while {@link spawnHub} still waits; that then rejects with the signal's reason. */
  readonly signal?: AbortSignal | undefined;
  /** Hears every line the hub says. Default: its stderr, where its log is, goes to this process's stderr. */
  readonly onLog?: ((line: string, stream: LogStream) => void) | undefined;
  /** Hears of every change. */
  readonly onState?: ((state: SpawnedState) => void) | undefined;
}

/** Options with their defaults. */
export interface Settings {
  readonly program: string;
  /** Its arguments, up to and including `serve` and what was asked for. */
  readonly args: readonly string[];
  readonly cwd: string | undefined;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly port: number;
  readonly ready: boolean;
  readonly readyTimeoutMs: number;
  readonly stopTimeoutMs: number;
  /** Undefined: not at all. */
  readonly restart: RestartLimits | undefined;
  readonly signal: AbortSignal | undefined;
  readonly onLog: (line: string, stream: LogStream) => void;
  readonly onState: (state: SpawnedState) => void;
}

/** A complete {@link RestartPolicy}. */
export interface RestartLimits {
  readonly minMs: number;
  readonly maxMs: number;
  readonly maxFailures: number;
}

/** @throws TypeError if an option makes no sense. */
export function settingsOf(options: SpawnOptions): Settings {
  const { port = 0, cwd, signal, ready = true } = options;
  if (!(Number.isInteger(port) && port >= 0 && port <= 65_535)) {
    throw new TypeError(`port has to be an integer from 0 to 65535, not ${port}`);
  }
  const [program, ...args] = commandOf(options, ready ? ["--strict"] : []);
  return {
    program,
    args,
    cwd,
    env: { ...process.env, ...options.env },
    port,
    ready,
    readyTimeoutMs: ms("readyTimeoutMs", options.readyTimeoutMs ?? 60_000),
    stopTimeoutMs: ms("stopTimeoutMs", options.stopTimeoutMs ?? 20_000),
    restart: limitsOf(options.restart ?? true),
    signal,
    onLog: options.onLog ?? logToStderr,
    onState: options.onState ?? ((): void => {}),
  };
}

function commandOf(
  { python, command, args = [] }: SpawnOptions,
  own: readonly string[],
): readonly [string, ...string[]] {
  if (python !== undefined && command !== undefined) {
    throw new TypeError("python and command exclude each other: command names the whole program");
  }
  const taken = args.find((text) => /^--(?:port|uds)(?:=|$)/u.test(text));
  if (taken !== undefined) {
    throw new TypeError(`${taken} cannot be among args: a spawned hub has a TCP port, and the option port names it`);
  }
  const [program, ...before] = command ?? [python ?? "python3", "-m", "trunkline.cli"];
  return [program, ...before, "serve", ...own, ...args];
}

function limitsOf(restart: boolean | RestartPolicy): RestartLimits | undefined {
  if (restart === false) {
    return undefined;
  }
  const { minDelayMs = 500, maxDelayMs = 20_000, maxFailures = 10 } = restart === true ? {} : restart;
  return {
    minMs: ms("minDelayMs", minDelayMs),
    maxMs: ms("maxDelayMs", maxDelayMs),
    maxFailures: checkPositive("maxFailures", maxFailures),
  };
}

function ms(name: string, value: number): number {
  return Math.min(checkPositive(name, value), MAX_TIMER_MS);
}

function logToStderr(line: string, stream: LogStream): void {
  if (stream === "stderr") {
    process.stderr.write(`${line}\n`);
  }
}
