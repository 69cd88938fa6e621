/**
 * From Node to a running hub.
 */
/// <reference lib="esnext.disposable" preserve="true" />
import type { ConnectOptions, Hub } from "../index.js";
import { settingsOf, type SpawnedState, type SpawnEnd, type SpawnOptions } from "./options.js";
import { Supervisor } from "./supervisor.js";

/** A hub that is a child of this process. It keeps this process running until it is stopped. */
export interface SpawnedHub extends AsyncDisposable {
  /** For example `ws://127.0.0.1:43210/ws`; the same after every restart. */
  readonly url: string;
  /** While it is running. With a `command` that starts the hub in turn, that program's. */
  readonly pid: number | undefined;
  readonly state: SpawnedState["state"];
  /** Resolves when it has ended for good: stopped, or given up. Never rejects. */
  readonly closed: Promise<SpawnEnd>;

  /** Connects to it; see `connect` of `trunkline`. While it is restarting that fails: connect once, and stay. */
  connect(options?: ConnectOptions): Promise<Hub>;

  /**
   * Asks it to end (SIGTERM), which gives calls in flight some time, and kills it after `stopTimeoutMs`. Resolves when it
   * is gone.
   */
  stop(): Promise<void>;
}

/**
 * Starts a hub as a child of this process, and keeps it running on one port: it is started again when it ends by itself,
 * and stops when this process ends, however that comes about.
 *
 * @throws SpawnError if it cannot be started, ends, or is not ready in time; nothing is left behind then.
 * @throws TypeError if an option makes no sense.
 */
export async function spawnHub(options: SpawnOptions = {}): Promise<SpawnedHub> {
  const supervisor = new Supervisor(settingsOf(options));
  await supervisor.start();
  return supervisor;
}
