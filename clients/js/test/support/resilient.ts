/**
 * Clients that come back, and what became of their connection.
 */
import assert from "node:assert/strict";
import type { TestContext } from "node:test";
import { connect, DisconnectedError, RpcError, type ConnectionState, type ConnectOptions, type Hub } from "../../src/index.js";
import { within } from "./time.js";

/** Comes back at once, so that tests need not wait. */
export const SOON = { minDelayMs: 1, maxDelayMs: 50 };

/** Does not come back while a test lasts: of delays that are drawn from so many days none is short. */
export const NEVER = { minDelayMs: 1e9, maxDelayMs: 1e9 };

export class Watched {
  readonly hub: Hub;
  readonly states: ConnectionState[] = [];
  readonly warnings: string[];
  #wake: (() => void)[] = [];

  private constructor(hub: Hub, warnings: string[]) {
    this.hub = hub;
    this.warnings = warnings;
    hub.onConnectionState((state) => {
      this.states.push(state);
      for (const wake of this.#wake.splice(0)) {
        wake();
      }
    });
  }

  static async connect(url: string, options: ConnectOptions = {}): Promise<Watched> {
    const warnings: string[] = [];
    const onWarning = (message: string): void => {
      warnings.push(message);
    };
    return new Watched(await connect(url, { reconnect: SOON, onWarning, ...options }), warnings);
  }

  /** The states so far, in short. */
  get story(): string[] {
    return this.states.map((state) => {
      switch (state.state) {
        case "connected":
          return state.resumed ? "resumed" : "anew";
        case "connecting":
        case "reconnecting":
          return `try ${state.attempt}`;
        default:
          return `closed ${state.code}`;
      }
    });
  }

  /** Waits for the `n`th time that the story tells `what`. */
  async until(what: "resumed" | "anew" | "lost", n = 1): Promise<void> {
    const count = (): number =>
      what === "lost"
        ? this.states.filter(({ state }) => state === "reconnecting").length
        : this.story.filter((word) => word === what).length;
    while (count() < n) {
      await within(
        `${what} (${n}), after ${this.story.join(", ")}`,
        new Promise<void>((resolve) => {
          this.#wake.push(resolve);
        }),
      );
    }
  }
}

/** A client that is closed when the test ends. */
export async function watched(t: TestContext, url: string, options?: ConnectOptions): Promise<Watched> {
  const client = await Watched.connect(url, options);
  t.after(() => client.hub.close());
  return client;
}

/** The lost connection that a promise rejects with, whenever that is. */
export async function lost(promise: Promise<unknown>): Promise<DisconnectedError> {
  const [outcome] = await Promise.allSettled([promise]);
  assert.ok(outcome?.status === "rejected", "it was to fail");
  assert.ok(outcome.reason instanceof DisconnectedError, String(outcome.reason));
  return outcome.reason;
}

/** The hub that was asked again said that another one may have executed the call. */
export function requireRefused(error: unknown): void {
  assert.ok(error instanceof RpcError, String(error));
  const { idempotency } = error.data as { idempotency?: unknown };
  assert.deepEqual([error.code, error.maybeExecuted, idempotency], [2001, true, "epoch"]);
}
