/**
 * One socket, from the first attempt to its end.
 */
import { INTERNAL_ERROR, NOT_AUTHENTICATED, REFUSED, UNAUTHENTICATED } from "./codes.js";
import { decode } from "./decode.js";
import { AuthenticationError, ConnectError, type Refusal } from "./errors.js";
import type { CloseInfo } from "./hub.js";
import type { Packed } from "./codec.js";
import type { WireError } from "./messages.js";
import { checkToken, type Settings } from "./settings.js";
import { OPEN, shut, type WebSocketLike } from "./socket.js";

/** What a wire tells its owner; nothing after `leave` or `close`. */
export interface WireUser {
  /** The handshake is done: say what there is to say first, then call `done`. */
  opened(): void;
  message(frame: Packed): void;
  /** No connection came about. */
  notOpened(error: ConnectError, end: CloseInfo): void;
  /** It had come about, and ended. */
  cutOff(end: CloseInfo): void;
}

/** No error of the hub's is longer, in characters. */
const MAX_ERROR = 65_536;

/** How long a close may take, in milliseconds. */
const CLOSE_MS = 1_000;

export class Wire {
  readonly #settings: Settings;
  readonly #user: WireUser;
  #socket: WebSocketLike | undefined;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #isDone = false;
  #isOver = false;
  /** Why the hub is about to close it. */
  #refusal: WireError | undefined;

  /** Asks for a token and dials, within `connectTimeoutMs`. */
  constructor(settings: Settings, user: WireUser) {
    this.#settings = settings;
    this.#user = user;
    this.#timer = setTimeout(() => {
      this.#fail(`no answer within ${settings.connectTimeoutMs} ms`);
    }, settings.connectTimeoutMs);
    void this.#dial();
  }

  /** Whether it is done, and what is sent has a chance to arrive. */
  get isOpen(): boolean {
    return this.#isDone && this.#socket?.readyState === OPEN;
  }

  /** The connection has come about. */
  done(): void {
    clearTimeout(this.#timer);
    this.#isDone = true;
  }

  send(frame: Packed): void {
    this.#socket?.send(frame);
  }

  /** Lets go of the socket at once. */
  leave(): void {
    clearTimeout(this.#timer);
    this.#isOver = true;
    if (this.#socket !== undefined) {
      this.#settings.platform.hangUp(this.#socket);
    }
  }

  /** Closes in good order, as far as the peer lets it; resolves when the socket is closed, or a second later. */
  async close(end: CloseInfo): Promise<void> {
    const socket = this.#socket;
    clearTimeout(this.#timer);
    this.#isOver = true;
    if (socket !== undefined) {
      shut(socket, end);
      await new Promise<unknown>((resolve) => {
        socket.addEventListener("close", resolve);
        this.#timer = setTimeout(resolve, CLOSE_MS);
      });
      this.leave();
    }
  }

  async #dial(): Promise<void> {
    const { token, platform, url, headers, socketOptions, codec } = this.#settings;
    const handshake = {
      url,
      subprotocol: codec.subprotocol,
      headers,
      socketOptions,
      refused: (status: number, body: string) => {
        const error = errorIn(body);
        this.#fail(`HTTP ${status}: ${error?.message ?? excerpt(body)}`, { status, error });
      },
    };
    let isHopeless = false;
    try {
      const secret = typeof token === "function" ? checkToken(await token()) : token;
      isHopeless = true;
      const WebSocket = this.#settings.WebSocket ?? (await platform.findWebSocket(handshake));
      if (!this.#isOver) {
        this.#socket = platform.dial(WebSocket, handshake, secret);
        this.#listen(this.#socket);
      }
    } catch (cause) {
      this.#fail(cause instanceof Error ? cause.message : String(cause), { cause, isHopeless });
    }
  }

  /** The listeners stay: an `error` nobody listens to ends a Node process. */
  #listen(socket: WebSocketLike): void {
    const { subprotocol } = this.#settings.codec;
    // Browsers would give a Blob, which is read later only.
    socket.binaryType = "arraybuffer";
    socket.addEventListener("open", () => {
      if (socket.protocol !== subprotocol) {
        this.#fail(`it does not speak ${subprotocol}`);
      } else if (!this.#isOver) {
        this.#user.opened();
      }
    });
    socket.addEventListener("message", ({ data }) => {
      this.#refusal = this.#isDone ? undefined : errorIn(String(data));
      if (!this.#isOver && this.#refusal === undefined) {
        this.#user.message(typeof data === "string" ? data : new Uint8Array(data as ArrayBuffer));
      }
    });
    socket.addEventListener("error", (event) => {
      if (!this.#isDone) {
        const [why, cause] = this.#settings.platform.reasonOf(event);
        this.#fail(why, { cause });
      }
    });
    socket.addEventListener("close", ({ code, reason }) => {
      const error = this.#refusal;
      this.#fail(error?.message ?? `closed (${code}) ${reason}`.trimEnd(), { error }, { code, reason });
    });
  }

  #fail(why: string, refusal: Refusal = {}, close?: CloseInfo): void {
    if (this.#isOver) {
      return;
    }
    this.leave();
    const error = new ConnectError(`cannot connect to ${this.#settings.name}: ${why}`, refusal);
    const end = close ?? { code: closeCodeOf(refusal, error.retryable), reason: why };
    if (this.#isDone) {
      this.#user.cutOff(end);
    } else {
      this.#user.notOpened(error, end);
    }
  }
}

/** The hub's own error in the answer to an upgrade, or in the message before it closes: one that belongs to no request. */
function errorIn(text: string): WireError | undefined {
  // Most of what comes first is no error, and large.
  const { message } = text.length < MAX_ERROR ? decode(text) : {};
  return message?.kind === "nonsense" ? message.error : undefined;
}

/** The close code that says the same: see SPEC.md, Close codes. */
function closeCodeOf({ status, error, cause }: Refusal, isRetryable: boolean): number {
  if (cause instanceof AuthenticationError || error?.code === UNAUTHENTICATED || status === 401) {
    return NOT_AUTHENTICATED;
  }
  const isRefused = error === undefined ? status === 403 : !isRetryable && error.code !== INTERNAL_ERROR;
  return isRefused ? REFUSED : 1006;
}

function excerpt(body: string): string {
  return body.slice(0, 200);
}
