/**
 * Acknowledges what came in a session, in portions.
 */
import { notification } from "./encode.js";
import { ACK_MS, type Session } from "./session.js";

export class Acks {
  readonly #send: (message: object) => void;
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(send: (message: object) => void) {
    this.#send = send;
  }

  /** Something came: acknowledges now, or a little later. */
  came(session: Session): void {
    const acknowledge = (): void => {
      this.stop();
      this.#send(notification("session.ack", { received: session.takeAck() }));
    };
    if (session.isAckDue) {
      acknowledge();
    } else {
      this.#timer ??= setTimeout(acknowledge, ACK_MS);
    }
  }

  stop(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }
}
