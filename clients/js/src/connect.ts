/**
 * From a URL to an open connection.
 */
import { Connection } from "./connection.js";
import { ConnectError } from "./errors.js";
import type { Hub } from "./hub.js";
import { SUBPROTOCOL } from "./messages.js";
import type { ConnectOptions } from "./options.js";
import { dial, findWebSocket, type WebSocketLike } from "./socket.js";
import { checkTimeout, MAX_TIMER_MS } from "./timeouts.js";

const DEFAULT_CONNECT_TIMEOUT_MS = 10_000;

/**
 * Connects to a hub.
 *
 * @param url for example `ws://127.0.0.1:8765/ws`.
 * @throws ConnectError if no connection comes about: refused (`cause` says why, where the platform tells),
 * too slow, or no WebSocket to use.
 * @throws TypeError if an option makes no sense.
 */
export async function connect(url: string | URL, options: ConnectOptions = {}): Promise<Hub> {
  const timeoutMs = checkTimeout("connectTimeoutMs", options.connectTimeoutMs ?? DEFAULT_CONNECT_TIMEOUT_MS);
  if (options.token === "") {
    throw new TypeError("token is empty: leave it out to connect without one");
  }
  const WebSocket = await findWebSocket(options.WebSocket);
  const target = String(url);
  let socket: WebSocketLike;
  try {
    socket = dial(WebSocket, target, options.token);
  } catch (error) {
    throw new ConnectError(`cannot connect to ${withoutSecrets(target)}: ${String(error)}`, error);
  }
  return opened(socket, withoutSecrets(target), Math.min(timeoutMs, MAX_TIMER_MS), makeWarn(options.onWarning));
}

/**
 * Waits for the handshake. The connection is made inside the `open` event, so that it hears messages that
 * arrive right behind the handshake. The listeners stay: an `error` nobody listens to ends a Node process.
 */
function opened(socket: WebSocketLike, url: string, timeoutMs: number, warn: (m: string) => void): Promise<Hub> {
  return new Promise((resolve, reject) => {
    const fail = (why: string, cause?: unknown): void => {
      clearTimeout(timer);
      reject(new ConnectError(`cannot connect to ${url}: ${why}`, cause));
    };
    const timer = setTimeout(() => {
      fail(`no answer within ${timeoutMs} ms`);
      socket.close();
    }, timeoutMs);
    socket.addEventListener("open", () => {
      clearTimeout(timer);
      if (socket.protocol === SUBPROTOCOL) {
        resolve(new Connection(socket, warn));
      } else {
        fail(`it does not speak ${SUBPROTOCOL}`);
        socket.close();
      }
    });
    socket.addEventListener("error", (event) => {
      fail(...reasonOf(event));
    });
    socket.addEventListener("close", ({ code, reason }) => {
      fail(`closed during the handshake (${code}) ${reason}`.trimEnd());
    });
  });
}

/** What an error event tells. Browsers tell nothing, on purpose. */
function reasonOf(event: unknown): [why: string, cause?: unknown] {
  const { message, error } = event as { message?: unknown; error?: unknown };
  if (typeof message === "string" && message !== "") {
    return [message, error];
  }
  const code = (error as { code?: unknown } | undefined)?.code;
  return [typeof code === "string" ? code : "refused, or nobody there", error];
}

/** A URL as it may stand in a log: no password, no query. */
function withoutSecrets(url: string): string {
  return url.replace(/\/\/[^/]*@/u, "//").replace(/\?.*/u, "");
}

/** Keeps an exception of the caller's function out of the socket's callback: it surfaces on its own. */
function makeWarn(onWarning: ((message: string) => void) | undefined): (message: string) => void {
  return (message) => {
    try {
      onWarning?.(message);
    } catch (error) {
      queueMicrotask(() => {
        throw error;
      });
    }
  };
}
