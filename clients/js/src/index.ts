/**
 * Trunkline's client: JSON-RPC calls, streams and events, many at once over one WebSocket.
 *
 * @packageDocumentation
 */
import { connectOn, createClientOn } from "./connect.js";
import type { Hub } from "./hub.js";
import type { ConnectOptions } from "./options.js";
import { PLATFORM } from "./platform.js";

export * from "./api.js";

/**
 * Connects to a hub.
 *
 * @param url for example `ws://127.0.0.1:8765/ws`.
 * @throws ConnectError if no connection comes about within `waitMs`: refused (`code` and `message` are the hub's, `cause` is
 * the platform's), too slow, or no WebSocket to use.
 * @throws CancelledError if `signal` is aborted first.
 * @throws TypeError if an option makes no sense.
 */
export function connect(url: string | URL, options?: ConnectOptions): Promise<Hub> {
  return connectOn(PLATFORM, url, options);
}

/**
 * A client that connects by itself, at once and for as long as it takes: calls, streams and subscriptions wait for the
 * connection, 30 s where they have no `timeoutMs`. For modules and components, which cannot wait.
 *
 * What ends it (a wrong token, an origin that is not allowed, `waitMs`) is told by `hub.closed`, by the state, and by every call.
 *
 * @throws TypeError if an option makes no sense.
 */
export function createClient(url: string | URL, options?: ConnectOptions): Hub {
  return createClientOn(PLATFORM, url, options);
}
