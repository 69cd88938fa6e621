/**
 * What the connection is doing, and who wants to know.
 */
import { safely } from "./callbacks.js";
import type { ConnectionState } from "./hub.js";

export class States {
  current: ConnectionState["state"] | "connecting" = "connecting";
  readonly #listeners = new Set<(state: ConnectionState) => void>();

  /** A listener that is added twice hears twice, and is removed once by each function this returns. */
  listen(listener: (state: ConnectionState) => void): () => void {
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

  tell(state: ConnectionState): void {
    this.current = state.state;
    for (const listener of this.#listeners) {
      listener(state);
    }
  }
}
