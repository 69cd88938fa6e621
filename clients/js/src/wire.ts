/**
 * One socket, from the first attempt to its end.
 */
import { ConnectError } from "./errors.js";
import type { CloseInfo } from "./hub.js";
import { SUBPROTOCOL } from "./messages.js";
import type { Settings } from "./settings.js";
import { OPEN, shut, type WebSocketLike } from "./socket.js";

/** What a wire tells its owner; nothing after `leave` or `close`. */
export interface WireUser {
  /** The handshake is done: say what there is to say first, then call `done`. */
  opened(): void;
  message(data: unknown): void;
  /** No connection came about. */
  notOpened(error: ConnectError, end: CloseInfo): void;
  /** It had come about, and ended. */
  cutOff(end: CloseInfo): void;
}

/** How long a close may take, in milliseconds. */
const CLOSE_MS = 1_000;

export class Wire {
  readonly #settings: Settings;
  readonly #user: WireUser;
  #socket: WebSocketLike | undefined;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #isDone = false;
  #isOver = false;

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

  send(text: string): void {
    this.#socket?.send(text);
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
    const { token, WebSocket, url, platform } = this.#settings;
    try {
      const secret = typeof token === "function" ? await token() : token;
      if (secret === "") {
        throw new TypeError("token is empty");
      }
      if (!this.#isOver) {
        this.#socket = platform.dial(WebSocket, url, secret);
        this.#listen(this.#socket);
      }
    } catch (error) {
      this.#fail(String(error), error);
    }
  }

  /** The listeners stay: an `error` nobody listens to ends a Node process. */
  #listen(socket: WebSocketLike): void {
    socket.addEventListener("open", () => {
      if (socket.protocol !== SUBPROTOCOL) {
        this.#fail(`it does not speak ${SUBPROTOCOL}`);
      } else if (!this.#isOver) {
        this.#user.opened();
      }
    });
    socket.addEventListener("message", ({ data }) => {
      if (!this.#isOver) {
        this.#user.message(data);
      }
    });
    socket.addEventListener("error", (event) => {
      if (!this.#isDone) {
        this.#fail(...this.#settings.platform.reasonOf(event));
      }
    });
    socket.addEventListener("close", ({ code, reason }) => {
      this.#fail(`closed (${code}) ${reason}`.trimEnd(), undefined, { code, reason });
    });
  }

  #fail(why: string, cause?: unknown, close?: CloseInfo): void {
    const end = close ?? { code: 1006, reason: why };
    if (this.#isOver) {
      return;
    }
    this.leave();
    if (this.#isDone) {
      this.#user.cutOff(end);
    } else {
      this.#user.notOpened(new ConnectError(`cannot connect to ${this.#settings.name}: ${why}`, cause), end);
    }
  }
}
