/**
 * What WebSockets have in common, and what browsers do with them.
 */
import type { Packed } from "./codec.js";
import { BEARER_SUBPROTOCOL, REFUSAL_SUBPROTOCOL } from "./messages.js";

/** What this client needs of a WebSocket: the browser's, Node's own and that of `ws` all have it. */
export interface WebSocketLike {
  readonly readyState: number;
  readonly protocol: string;
  /** Set to `"arraybuffer"`: how binary messages are given. */
  binaryType?: string;
  /** Bytes are sent with a binary codec only. */
  send(data: Packed): void;
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

/** How a connection is meant to end, or ended. */
interface End {
  readonly code: number;
  readonly reason: string;
}

/** `WebSocket.OPEN`, which every implementation has to number the same. */
export const OPEN = 1;

/** What a handshake may say beside its token. */
export interface Handshake {
  readonly url: string;
  readonly subprotocol: string;
  readonly headers: Readonly<Record<string, string>> | undefined;
  readonly socketOptions: Readonly<Record<string, unknown>> | undefined;
  /** Hears of the HTTP answer that refuses it, where the platform tells. */
  refused(status: number, body: string): void;
}

/** What differs between browsers and everything else. */
export interface Platform {
  /**
   * The WebSocket class to use where the caller gives none.
   *
   * @throws Error if there is none, or none that takes what the handshake has.
   */
  findWebSocket(handshake: Handshake): WebSocketConstructor | Promise<WebSocketConstructor>;
  /**
   * Starts a handshake.
   *
   * @throws whatever the class throws, for example on a malformed URL.
   */
  dial(WebSocket: WebSocketConstructor, handshake: Handshake, token: string | undefined): WebSocketLike;
  /** Lets go of a socket, answered or not. */
  hangUp(socket: WebSocketLike): void;
  /** What an error event tells. */
  reasonOf(event: unknown): [why: string, cause?: unknown];
}

/** Nobody can set headers; sockets do their closing by themselves; errors tell nothing, on purpose. */
export const BROWSER: Platform = {
  findWebSocket: () => globalThis.WebSocket,
  dial: (Socket, { url, subprotocol, headers, socketOptions }, token) => {
    if (headers !== undefined || socketOptions !== undefined) {
      throw new TypeError("headers and socketOptions need the package ws");
    }
    const bearer = token === undefined ? [] : [BEARER_SUBPROTOCOL + base64url(token)];
    return new Socket(url, [subprotocol, REFUSAL_SUBPROTOCOL, ...bearer]);
  },
  hangUp: (socket) => {
    socket.close();
  },
  reasonOf: () => ["refused, or nobody there"],
};

function base64url(text: string): string {
  const base64 = btoa(Array.from(utf8(text), (byte) => String.fromCodePoint(byte)).join(""));
  return base64.replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/u, "");
}

/** Closes with a code; browsers let nobody say 1002, so that they close without one. */
export function shut(socket: WebSocketLike, { code, reason }: End): void {
  try {
    socket.close(code, reason);
  } catch {
    socket.close();
  }
}

export function utf8(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}
