/**
 * A bare WebSocket connection that says exactly what a conformance case tells it to.
 */
import { once } from "node:events";
import { WebSocket } from "ws";
import { AsyncQueue } from "../../src/queue.js";
import { CODEC } from "./codec.js";
import { within } from "./time.js";

/** One thing a case sends. */
export type Send =
  | { readonly text: string }
  | { readonly binary_base64: string }
  | { readonly raw_utf8_base64: string }
  | { readonly fragments: readonly string[] }
  | { readonly generate: { prefix: string; unit: string; count: number; suffix: string } };

export class RawConnection {
  readonly #socket: WebSocket;
  readonly #received = new AsyncQueue<unknown>();
  readonly #closed: Promise<number>;

  private constructor(socket: WebSocket) {
    this.#socket = socket;
    socket.on("message", (data: Buffer, isBinary: boolean) => {
      this.#received.push(isBinary ? CODEC.parse(new Uint8Array(data)) : JSON.parse(data.toString()));
    });
    this.#closed = new Promise((resolve) => {
      socket.on("close", (code) => {
        this.#received.end();
        resolve(code);
      });
    });
    socket.on("error", () => {
      // A `close` with its code follows; that is what cases are about.
    });
  }

  static async open(url: string, protocols: string[] = []): Promise<RawConnection> {
    const socket = new WebSocket(url, protocols, { perMessageDeflate: false });
    const connection = new RawConnection(socket);
    await within("a connection", once(socket, "open"));
    return connection;
  }

  /** Sends a message as the tests' codec has it. */
  say(message: object): void {
    this.#socket.send(CODEC.encode(message), ignore);
  }

  send(item: Send): void {
    if ("text" in item) {
      this.#frame(item.text);
    } else if ("generate" in item) {
      const { prefix, unit, count, suffix } = item.generate;
      this.#frame(prefix + unit.repeat(count) + suffix);
    } else if ("fragments" in item) {
      const last = item.fragments.length - 1;
      item.fragments.forEach((fragment, index) => {
        this.#frame(fragment, index === last);
      });
    } else if ("binary_base64" in item) {
      this.#socket.send(Buffer.from(item.binary_base64, "base64"), { binary: true }, ignore);
    } else if ("raw_utf8_base64" in item) {
      this.#socket.send(Buffer.from(item.raw_utf8_base64, "base64"), { binary: false }, ignore);
    } else {
      throw new Error(`a send this test does not know: ${JSON.stringify(item)}`);
    }
  }

  /** The next message; rejects if the connection closes instead. */
  async next(): Promise<unknown> {
    const { value, done } = await within("a message of the hub", this.#received.next());
    if (done === true) {
      throw new Error(`closed (${await this.#closed}) instead of one more message`);
    }
    return value;
  }

  /** The close code; rejects if messages come first or nothing happens. */
  async closeCode(): Promise<number> {
    const code = await within("the hub closes the connection", this.#closed);
    const { value, done } = await this.#received.next();
    if (done !== true) {
      throw new Error(`one more message before the close: ${JSON.stringify(value)}`);
    }
    return code;
  }

  terminate(): void {
    this.#socket.terminate();
  }

  #frame(text: string, fin = true): void {
    this.#socket.send(text, { fin, binary: false }, ignore);
  }
}

/** The hub may close while a case still sends. */
function ignore(): void {}
