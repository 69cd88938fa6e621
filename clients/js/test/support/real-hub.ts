/**
 * The real hub, as a process of its own.
 */
import { spawn, type ChildProcess } from "node:child_process";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { REPOSITORY } from "./paths.js";
import { within } from "./time.js";

const { TEST_FORKED_HUB_PROGRAM, TEST_HUB_PROGRAM } = process.env;

/** The hub as it is installed; or, in `make test`, one that does not import all of it anew each time it is started. */
const BINARY = TEST_FORKED_HUB_PROGRAM ?? TEST_HUB_PROGRAM ?? join(REPOSITORY, ".venv", "bin", "trunkline");

const ARGUMENTS = ["--packs", "none", "--methods", "trunkline.methods.debug", "--executors", "1", "--no-demo"];

const LISTENING = /listening on (?<url>ws:\/\/127\.0\.0\.1:\d+\/ws)/u;

/**
 * Whether tests that need this file are skipped, and why: what is missing on a developer's machine is said,
 * what is missing in CI fails.
 */
export function skipUnless(file: string): string | false {
  const inCI = (process.env.CI ?? "") !== "";
  return inCI || existsSync(file) ? false : `missing: ${file}`;
}

/** Why tests that need the hub are skipped, if they are. */
export const SKIP_WITHOUT_HUB = skipUnless(BINARY);

export interface RealHub {
  readonly url: string;
  readonly port: number;
  /** Ends it by SIGKILL, and waits. */
  kill(): Promise<void>;
  /** Asks it to end (SIGTERM) and waits; rejects if it does not, or if it had died already. */
  stop(): Promise<void>;
}

/** The tests' own methods, in the same place as those of the Python tests. */
const MODULES = join(REPOSITORY, "tests", "support", "modules");

/** Why tests that need the methods of `lab.py` are skipped, if they are. */
export const SKIP_WITHOUT_LAB = SKIP_WITHOUT_HUB === false ? skipUnless(join(MODULES, "lab.py")) : SKIP_WITHOUT_HUB;

/** How to start a hub. */
export interface HubOptions {
  /** 0 (default) for a free one. */
  readonly port?: number;
  readonly env?: Readonly<Record<string, string>>;
  /** Whether to serve `lab.py`, too. */
  readonly lab?: boolean;
  /** A further module beside `lab.py`. */
  readonly methods?: string;
}

/** Starts a hub; resolves when its executors are warm. */
export async function startHub({ port = 0, env = {}, lab = false, methods: own }: HubOptions = {}): Promise<RealHub> {
  const data = mkdtempSync(join(tmpdir(), "trunkline-hub-"));
  const methods = [...(lab ? ["lab"] : []), ...(own === undefined ? [] : [own])].flatMap((name) => ["--methods", name]);
  const child = spawn(BINARY, ["serve", "--port", String(port), ...ARGUMENTS, ...methods, "--data", data], {
    stdio: ["ignore", "pipe", "pipe"],
    env: { ...process.env, ...env },
    ...(methods.length > 0 ? { cwd: MODULES } : {}),
  });
  const said: string[] = [];
  const ended = new Promise<string>((resolve) => {
    child.once("error", (error) => {
      resolve(String(error));
    });
    child.once("close", (code, signal) => {
      resolve(`the hub ended (${code ?? signal}); its last words:\n${said.slice(-40).join("\n")}`);
    });
  });
  const stop = async (): Promise<void> => {
    await terminate(child, ended);
    rmSync(data, { recursive: true, force: true });
  };
  const kill = async (): Promise<void> => {
    child.kill("SIGKILL");
    await ended;
    rmSync(data, { recursive: true, force: true });
  };
  try {
    const url = await within("the hub is ready", ready(child, said, ended));
    return { url, port: Number(new URL(url).port), stop, kill };
  } catch (error) {
    child.kill("SIGKILL");
    rmSync(data, { recursive: true, force: true });
    throw error;
  }
}

function ready(child: ChildProcess, said: string[], ended: Promise<string>): Promise<string> {
  const found = new Promise<string>((resolve) => {
    let url: string | undefined;
    const remember = (line: string): void => {
      said.push(line);
      url ??= LISTENING.exec(line)?.groups?.url;
      // It listens before its executors are warm; until then methods are not known.
      if (url !== undefined && line.startsWith("ready: ")) {
        resolve(url);
      }
    };
    for (const stream of [child.stdout, child.stderr]) {
      if (stream !== null) {
        createInterface({ input: stream }).on("line", remember);
      }
    }
  });
  const died = ended.then((why) => {
    throw new Error(why);
  });
  return Promise.race([found, died]);
}

/** Ends the hub; rejects if it ended by itself before, or does not obey. */
async function terminate(child: ChildProcess, ended: Promise<string>): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) {
    throw new Error(await ended);
  }
  child.kill("SIGTERM");
  try {
    await within("the hub ends after SIGTERM", ended);
  } catch (error) {
    child.kill("SIGKILL");
    throw error;
  }
}
