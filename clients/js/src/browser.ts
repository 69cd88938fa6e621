/**
 * The same for browsers, without what only Node needs: the package's `browser` condition.
 *
 * @packageDocumentation
 */
import { connectOn, createClientOn } from "./connect.js";
import type { Hub } from "./hub.js";
import type { ConnectOptions } from "./options.js";
import { BROWSER } from "./socket.js";

export * from "./api.js";

/** See index.ts. */
export function connect(url: string | URL, options?: ConnectOptions): Promise<Hub> {
  return connectOn(BROWSER, url, options);
}

/** See index.ts. */
export function createClient(url: string | URL, options?: ConnectOptions): Hub {
  return createClientOn(BROWSER, url, options);
}
