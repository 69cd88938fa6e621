/**
 * `ws` dressed as a browser's WebSocket: two arguments, no methods of its own. It stands for every platform that
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
    this.#socket.close(code, reason);
  }
}
