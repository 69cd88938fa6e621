/**
 * `ws` dressed as a browser's WebSocket: two arguments, no methods of its own, few close codes. It stands for every platform that
 * lets nobody set headers.
 */
import { WebSocket } from "ws";
import type { WebSocketLike } from "../../src/index.js";

export class PlainSocket implements WebSocketLike {
  readonly addEventListener: WebSocketLike["addEventListener"];
  readonly #socket: WebSocket;

  constructor(url: string, protocols: string[]) {
    this.#socket = new WebSocket(url, protocols);
    const socket: WebSocketLike = this.#socket;
    this.addEventListener = socket.addEventListener.bind(socket);
  }

  get readyState(): number {
    return this.#socket.readyState;
  }

  get protocol(): string {
    return this.#socket.protocol;
  }

  send(data: string): void {
    this.#socket.send(data);
  }

  close(code?: number, reason?: string): void {
    if (code !== undefined && code !== 1000 && !(code >= 3000 && code < 5000)) {
      throw new DOMException(`${code} is not for pages to say`, "InvalidAccessError");
    }
    this.#socket.close(code, reason);
  }
}
