/**
 * Trunkline's client: JSON-RPC calls, streams and events, many at once over one WebSocket.
 *
 * @packageDocumentation
 */
import { connectOn } from "./connect.js";
import type { Hub } from "./hub.js";
import type { ConnectOptions } from "./options.js";
import { PLATFORM } from "./platform.js";

export * from "./api.js";

/**
 * Connects to a hub.
 *
 * @param url for example `ws://127.0.0.1:8765/ws`.
 * @throws ConnectError if no connection comes about: refused (`cause` says why, where the platform tells),
 * too slow, or no WebSocket to use.
 * @throws TypeError if an option makes no sense.
 */
export function connect(url: string | URL, options?: ConnectOptions): Promise<Hub> {
  return connectOn(PLATFORM, url, options);
}
