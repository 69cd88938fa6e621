/**
 * Keeps a hub running: one process after the other, all on the same port.
 */
import { performance } from "node:perf_hooks";
import { connect, type ConnectOptions, type Hub } from "../index.js";
import { safely } from "../callbacks.js";
import { SpawnError } from "./spawn-error.js";
import { HubProcess } from "./hub-process.js";
import type { Settings, SpawnedState, SpawnEnd } from "./options.js";
import { Restarts } from "./restarts.js";
import type { SpawnedHub } from "./spawn.js";

/** What {@link spawnHub} gives. */
export class Supervisor implements SpawnedHub {
  readonly closed: Promise<SpawnEnd>;
  readonly #settings: Settings;
  readonly #restarts: Restarts | undefined;
  #state: SpawnedState = { state: "starting" };
  #port: number;
  #url = "";
  #process: HubProcess | undefined;
  #timer: NodeJS.Timeout | undefined;
  #stopped: Promise<void> | undefined;
  #close: (end: SpawnEnd) => void = () => {};

  constructor(settings: Settings) {
    this.#settings = settings;
    this.#port = settings.port;
    this.#restarts = settings.restart && new Restarts(settings.restart);
    this.closed = new Promise((resolve) => {
      this.#close = resolve;
    });
  }

  get url(): string {
    return this.#url;
  }

  get pid(): number | undefined {
    return this.#state.state === "running" ? this.#state.pid : undefined;
  }

  get state(): SpawnedState["state"] {
    return this.#state.state;
  }

  connect(options?: ConnectOptions): Promise<Hub> {
    return connect(this.#url, options);
  }

  /**
   * The first start.
   *
   * @throws SpawnError if it fails; then nothing is left behind.
   */
  async start(): Promise<void> {
    const { signal } = this.#settings;
    signal?.throwIfAborted();
    signal?.addEventListener("abort", this.#onAbort);
    try {
      await this.#start();
      signal?.throwIfAborted();
    } catch (error) {
      await this.#stopped;
      this.#conclude(error instanceof SpawnError ? error : undefined);
      signal?.throwIfAborted();
      throw error;
    }
  }

  stop(): Promise<void> {
    this.#stopped ??= this.#stop();
    return this.#stopped;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.stop();
  }

  readonly #onAbort = (): void => {
    void this.stop();
  };

  /** One process more. */
  async #start(): Promise<void> {
    const hub = new HubProcess(this.#settings, this.#port);
    this.#process = hub;
    this.#tell({ state: "starting" });
    try {
      const { url, pid } = await hub.up();
      this.#url = url;
      this.#port = Number(new URL(url).port);
      void this.#watch(hub);
      if (this.#stopped === undefined) {
        this.#tell({ state: "running", url, pid });
      }
    } catch (error) {
      await hub.stop();
      throw error;
    }
  }

  async #watch(hub: HubProcess): Promise<void> {
    const since = performance.now();
    const end = await hub.ended;
    this.#ended(hub.error(end), performance.now() - since);
  }

  async #startAgain(): Promise<void> {
    try {
      await this.#start();
    } catch (error) {
      this.#ended(error as SpawnError, 0);
    }
  }

  /** @param upMs how long it was up. */
  #ended(cause: SpawnError, upMs: number): void {
    if (this.#stopped !== undefined) {
      return;
    }
    const next = this.#restarts?.next(upMs);
    if (next === undefined) {
      this.#conclude(cause);
      return;
    }
    this.#tell({ state: "restarting", ...next, cause });
    this.#timer = setTimeout(() => {
      void this.#startAgain();
    }, next.delayMs);
  }

  async #stop(): Promise<void> {
    if (this.state !== "stopped") {
      clearTimeout(this.#timer);
      this.#tell({ state: "stopping" });
      await this.#process?.stop();
      this.#conclude(undefined);
    }
  }

  #conclude(error: SpawnError | undefined): void {
    if (this.state !== "stopped") {
      this.#settings.signal?.removeEventListener("abort", this.#onAbort);
      this.#tell({ state: "stopped", error });
      this.#close({ error });
    }
  }

  #tell(state: SpawnedState): void {
    this.#state = state;
    safely(() => {
      this.#settings.onState(state);
    });
  }
}
