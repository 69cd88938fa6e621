/**
 * Node, Deno, Bun: a WebSocket may have to be found, and that of `ws` can do more than a browser's.
 */
import { ConnectError } from "./errors.js";
import { SUBPROTOCOL } from "./messages.js";
import { BROWSER, type Platform, type WebSocketConstructor, type WebSocketLike } from "./socket.js";

/** `ws` takes a third argument that others do not have. */
type HeaderWebSocketConstructor = new (
  url: string,
  protocols: string[],
  options: { headers: Record<string, string> },
) => WebSocketLike;

export const PLATFORM: Platform = {
  findWebSocket: () => (globalThis as { WebSocket?: WebSocketConstructor }).WebSocket ?? importWs(),
  dial: (WebSocket, url, token) => {
    if (token === undefined || !takesHeaders(WebSocket)) {
      return BROWSER.dial(WebSocket, url, token);
    }
    const Ws = WebSocket as HeaderWebSocketConstructor;
    return new Ws(url, [SUBPROTOCOL], { headers: { Authorization: `Bearer ${token}` } });
  },
  // Only `ws` has a word for it.
  hangUp: (socket: WebSocketLike & { terminate?: () => void }) => {
    if (socket.terminate === undefined) {
      socket.close();
    } else {
      socket.terminate();
    }
  },
  reasonOf: (event) => {
    const { message, error } = event as { message?: unknown; error?: unknown };
    if (typeof message === "string" && message !== "") {
      return [message, error];
    }
    const code = (error as { code?: unknown } | undefined)?.code;
    return typeof code === "string" ? [code, error] : [BROWSER.reasonOf(event)[0], error];
  },
};

async function importWs(): Promise<WebSocketConstructor> {
  let cause: unknown;
  try {
    const module = (await import("ws")) as { default?: unknown };
    if (typeof module.default === "function") {
      return module.default as WebSocketConstructor;
    }
  } catch (error) {
    cause = error;
  }
  throw new ConnectError("no WebSocket here: npm i ws, or Node 22", cause);
}

/** Whether it is the class of `ws`: of all known ones only that has `terminate`. */
function takesHeaders(WebSocket: WebSocketConstructor): boolean {
  const prototype = (WebSocket as { prototype?: unknown }).prototype;
  return typeof prototype === "object" && prototype !== null && "terminate" in prototype;
}
