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

const BINARY = process.env.TRUNKLINE_BIN ?? join(REPOSITORY, ".venv", "bin", "trunkline");

const ARGUMENTS = ["--port", "0", "--packs", "none", "--methods", "trunkline.methods.debug", "--executors", "1", "--no-demo"];

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
  /** Asks it to end (SIGTERM) and waits; rejects if it does not, or if it had died already. */
  stop(): Promise<void>;
}

/** Starts a hub on a free port; resolves when its executors are warm. */
export async function startHub(): Promise<RealHub> {
  const data = mkdtempSync(join(tmpdir(), "trunkline-hub-"));
  const child = spawn(BINARY, ["serve", ...ARGUMENTS, "--data", data], { stdio: ["ignore", "pipe", "pipe"] });
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
  try {
    return { url: await within(60_000, "the hub is ready", ready(child, said, ended)), stop };
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
    await within(15_000, "the hub ends after SIGTERM", ended);
  } catch (error) {
    child.kill("SIGKILL");
    throw error;
  }
}
