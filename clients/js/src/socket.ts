/**
 * Finding a WebSocket, and saying who we are while it opens.
 */
import { ConnectError } from "./errors.js";
import { BEARER_SUBPROTOCOL, SUBPROTOCOL } from "./messages.js";

/** What this client needs of a WebSocket: the browser's, Node's own and that of `ws` all have it. */
export interface WebSocketLike {
  readonly readyState: number;
  readonly protocol: string;
  send(data: string): void;
  close(code?: number, reason?: string): void;
  addEventListener(type: "open" | "error", listener: (event: unknown) => void): void;
  addEventListener(type: "message", listener: (event: { readonly data: unknown }) => void): void;
  addEventListener(
    type: "close",
    listener: (event: { readonly code: number; readonly reason: string }) => void,
  ): void;
}

/** A WebSocket class. */
export type WebSocketConstructor = new (url: string, protocols: string[]) => WebSocketLike;

/** `ws` takes a third argument that others do not have. */
type HeaderWebSocketConstructor = new (
  url: string,
  protocols: string[],
  options: { headers: Record<string, string> },
) => WebSocketLike;

/** `WebSocket.OPEN`, which every implementation has to number the same. */
export const OPEN = 1;

/**
 * The WebSocket class to use: the caller's, else the platform's, else that of the optional peer `ws`.
 *
 * @throws ConnectError if there is none.
 */
export async function findWebSocket(override: WebSocketConstructor | undefined): Promise<WebSocketConstructor> {
  const platform = (globalThis as { WebSocket?: WebSocketConstructor }).WebSocket;
  return override ?? platform ?? (await importWs());
}

async function importWs(): Promise<WebSocketConstructor> {
  let cause: unknown;
  try {
    const module = (await import("ws")) as { default?: unknown };
    // Bundlers for the browser put an empty module here (package.json, "browser").
    if (typeof module.default === "function") {
      return module.default as WebSocketConstructor;
    }
  } catch (error) {
    cause = error;
  }
  throw new ConnectError("no WebSocket here: npm i ws, or Node 22", cause);
}

/**
 * Starts a handshake.
 *
 * @throws whatever the class throws, for example on a malformed URL.
 */
export function dial(WebSocket: WebSocketConstructor, url: string, token: string | undefined): WebSocketLike {
  if (token === undefined) {
    return new WebSocket(url, [SUBPROTOCOL]);
  }
  if (takesHeaders(WebSocket)) {
    const Ws = WebSocket as HeaderWebSocketConstructor;
    return new Ws(url, [SUBPROTOCOL], { headers: { Authorization: `Bearer ${token}` } });
  }
  return new WebSocket(url, [SUBPROTOCOL, BEARER_SUBPROTOCOL + base64url(token)]);
}

/** Whether it is the class of `ws`: of all known ones only that has `terminate`. */
function takesHeaders(WebSocket: WebSocketConstructor): boolean {
  const prototype = (WebSocket as { prototype?: unknown }).prototype;
  return typeof prototype === "object" && prototype !== null && "terminate" in prototype;
}

function base64url(text: string): string {
  const bytes = new TextEncoder().encode(text);
  const base64 = btoa(Array.from(bytes, (byte) => String.fromCodePoint(byte)).join(""));
  return base64.replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/u, "");
}
