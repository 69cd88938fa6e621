/**
 * Node, Deno, Bun: a WebSocket may have to be found, and that of `ws` can do more than a browser's.
 */
import { BROWSER, type Handshake, type Platform, type WebSocketConstructor, type WebSocketLike } from "./socket.js";

/** `ws` takes a third argument that others do not have. */
type HeaderWebSocketConstructor = new (
  url: string,
  protocols: string[],
  options: { headers: Record<string, string> },
) => WebSocketLike & Partial<RefusalTeller>;

/** What only a WebSocket of `ws` has. */
interface RefusalTeller {
  on(type: "unexpected-response", listener: (request: unknown, response: HttpAnswer) => void): void;
}

/** What is needed of Node's `http.IncomingMessage`. */
interface HttpAnswer extends AsyncIterable<{ toString(): string }> {
  readonly statusCode?: number;
  destroy(): void;
}

/** So much of the answer to a refused upgrade is read, in characters. */
const MAX_ANSWER = 65_536;

export const PLATFORM: Platform = {
  findWebSocket: ({ headers, socketOptions }) => {
    const own = (globalThis as { WebSocket?: WebSocketConstructor }).WebSocket;
    return own !== undefined && headers === undefined && socketOptions === undefined ? own : importWs();
  },
  dial: (WebSocket, handshake, token) => {
    if (!takesHeaders(WebSocket)) {
      return BROWSER.dial(WebSocket, handshake, token);
    }
    const Ws = WebSocket as HeaderWebSocketConstructor;
    const { url, subprotocol, headers, socketOptions } = handshake;
    const bearer = token === undefined ? {} : { Authorization: `Bearer ${token}` };
    const socket = new Ws(url, [subprotocol], { ...socketOptions, headers: { ...headers, ...bearer } });
    socket.on?.("unexpected-response", (_request, answer) => {
      void readRefusal(answer, handshake);
    });
    return socket;
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
  throw new Error("no WebSocket here: npm i ws, or Node 22", { cause });
}

/** Passes on status and body of the answer that refuses an upgrade. */
async function readRefusal(answer: HttpAnswer, handshake: Handshake): Promise<void> {
  let body = "";
  try {
    for await (const part of answer) {
      body += part.toString();
      if (body.length > MAX_ANSWER) {
        break;
      }
    }
  } catch {
    // Cut off: what came will do.
  }
  handshake.refused(answer.statusCode ?? 0, body);
  answer.destroy();
}

/** Whether it is the class of `ws`: Bun's own has `terminate`, too, but tells nothing of the answer that refuses it. */
function takesHeaders(WebSocket: WebSocketConstructor): boolean {
  const prototype = (WebSocket as { prototype?: unknown }).prototype;
  return typeof prototype === "object" && prototype !== null && "terminate" in prototype && "on" in prototype;
}
