/**
 * What the connection is doing, and who wants to know.
 */
import { safely } from "./callbacks.js";
import type { ConnectionState } from "./hub.js";
import { checkFunction } from "./known.js";

export class States {
  current: ConnectionState["state"] = "connecting";
  readonly #listeners = new Set<(state: ConnectionState) => void>();
  /** Changes that not all have been told; more than one where a listener causes the next. */
  readonly #untold: ConnectionState[] = [];

  /** A listener that is added twice hears twice, and is removed once by each function this returns. */
  listen(listener: (state: ConnectionState) => void): () => void {
    checkFunction("listener", listener);
    const own = (state: ConnectionState): void => {
      safely(() => {
        listener(state);
      });
    };
    this.#listeners.add(own);
    return () => {
      this.#listeners.delete(own);
    };
  }

  /** Tells those who listen now, each once, and every change to all before the next. */
  tell(change: ConnectionState): void {
    this.current = change.state;
    if (this.#untold.push(change) > 1) {
      return;
    }
    for (const state of this.#untold) {
      const present = [...this.#listeners];
      for (const listener of present) {
        if (this.#listeners.has(listener)) {
          listener(state);
        }
      }
    }
    this.#untold.length = 0;
  }
}
