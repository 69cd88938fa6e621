/**
 * Messages that are too large for the hub: refused before they are sent, or, where it closed 1009, never sent again.
 */
import { INVALID_REQUEST, SERIALIZATION_ERROR } from "./codes.js";
import { encode, notification } from "./encode.js";
import { RpcError } from "./errors.js";
import type { ForeignId } from "./messages.js";
import type { Frame } from "./outbox.js";
import type { Session } from "./session.js";
import { utf8 } from "./socket.js";

/** Close code of a hub that was sent more than it takes. */
export const MESSAGE_TOO_BIG = 1009;

/** What numbering adds to a message, at most. */
const SEQ_BYTES = 24;

/** A message the hub closed 1009 for: whose it is, and what says that this is over. */
export interface Oversized {
  readonly error: RpcError;
  /** The call of this client's. */
  readonly request: number | undefined;
  /** The call that this client serves. */
  readonly served: ForeignId | undefined;
  readonly substitute: string;
}

/** Whose messages they are. */
export interface SizeUser {
  /** The longest request that was sent, of all or of those that no session keeps. */
  longest(ofAll: boolean): Frame | undefined;
  /** The hub closed 1009 because of this. */
  tooLarge(frame: Oversized): void;
}

/** What the hub takes in a message, in bytes, as it told or as is known from what it did not take. */
export class SizeLimit {
  #max = Infinity;

  /** The result of `session.open` or `rpc.ping`. */
  told(result: unknown): void {
    const { limits } = (result ?? {}) as { limits?: { max_message_bytes?: number } };
    this.#max = limits?.max_message_bytes ?? this.#max;
  }

  /** @throws RpcError if the hub does not take a message. */
  check(text: string): void {
    // A UTF-16 unit is up to three bytes: few texts have to be measured.
    const max = this.#max - SEQ_BYTES;
    if (text.length * 3 > max && utf8(text).length > max) {
      throw tooLarge(text, `of at most ${this.#max}`);
    }
  }

  /** The hub closed 1009. What it has acknowledged it took: the largest of the rest is too large in any case. */
  takeOut(session: Session | undefined, user: SizeUser): void {
    const kept = session?.longest ?? "";
    const alone = user.longest(session === undefined);
    const text = alone !== undefined && alone.text.length > kept.length ? alone.text : kept;
    if (text !== "") {
      this.#max = Math.min(this.#max, utf8(text).length - 1);
    }
    if (text !== kept) {
      alone?.refused?.(tooLarge(text));
    } else if (session !== undefined && text !== "") {
      const found = oversized(kept);
      session.substitute(kept, found.substitute);
      user.tooLarge(found);
    }
  }
}

/** The same for the caller of a served method. */
export function notSendable({ message }: Pick<Error, "message">): { code: number; message: string } {
  return { code: SERIALIZATION_ERROR, message };
}

function tooLarge(text: string, why = "(close 1009)"): RpcError {
  const size = utf8(text).length;
  return new RpcError({ code: INVALID_REQUEST, message: `${size} bytes ${why}: too large for the hub`, data: { size } });
}

function oversized(text: string): Oversized {
  const error = tooLarge(text);
  const { id, method, params } = JSON.parse(text) as {
    id?: ForeignId;
    method?: string;
    params?: { request_id?: ForeignId };
  };
  const about = id ?? params?.request_id;
  if (method === undefined || method === "stream_chunk") {
    const substitute = encode({ jsonrpc: "2.0", id: about, error: notSendable(error) });
    return { error, request: undefined, served: about, substitute };
  }
  return { error, request: about as number, served: undefined, substitute: notification("$/cancelRequest", { id: about }) };
}
