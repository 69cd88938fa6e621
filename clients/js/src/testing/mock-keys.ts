/**
 * The idempotency keys of a mock hub's calls: what was called with each, and how it ended.
 */
import { ERROR_CODES, RpcError, type RpcErrorInit } from "../index.js";
import type { CallRun, Outcome } from "./call-run.js";

interface Entry {
  readonly method: string;
  readonly params: string;
  readonly run: CallRun;
  readonly outcome: Promise<Outcome>;
  isOver: boolean;
}

export class MockKeys {
  readonly #entries = new Map<string, Entry>();

  /** What a call with a key that is known gets: the outcome of the first, or why it is refused. Undefined for a new key. */
  joined(key: string, method: string, params: unknown): Promise<Outcome> | undefined {
    const entry = this.#entries.get(key);
    if (entry === undefined) {
      return undefined;
    }
    if (entry.method !== method || entry.params !== JSON.stringify(params)) {
      const message = "idempotency_key: it was used for another call: take another one";
      return refused({ code: ERROR_CODES.INVALID_PARAMS, message, maybeExecuted: false });
    }
    if (entry.run.isStream) {
      const idempotency = entry.isOver ? "executed" : "in_use";
      const message = "idempotency_key: a stream is not joined, nor kept";
      return refused({ code: ERROR_CODES.INVALID_REQUEST, message, maybeExecuted: true, data: { idempotency } });
    }
    return entry.outcome;
  }

  /** Keeps the outcome of the first call with a key, unless it was refused before it ran. */
  keep(key: string, method: string, params: unknown, run: CallRun, outcome: Promise<Outcome>): void {
    const entry: Entry = { method, params: JSON.stringify(params), run, outcome, isOver: false };
    this.#entries.set(key, entry);
    void this.#settle(key, entry);
  }

  async #settle(key: string, entry: Entry): Promise<void> {
    const ended = await entry.outcome;
    entry.isOver = true;
    if ("error" in ended && ended.error.maybeExecuted !== true) {
      this.#entries.delete(key);
    }
  }

  clear(): void {
    this.#entries.clear();
  }
}

function refused(error: RpcErrorInit): Promise<Outcome> {
  return Promise.resolve({ error });
}

/** An outcome as a handler has it. */
export async function unwrapped(outcome: Promise<Outcome>): Promise<unknown> {
  const ended = await outcome;
  if ("error" in ended) {
    throw new RpcError(ended.error);
  }
  return ended.result;
}
