/**
 * Messages that are too large for the hub: refused before they are sent, or, where it closed 1009, never sent again.
 */
import { INVALID_REQUEST, SERIALIZATION_ERROR } from "./codes.js";
import type { Packed } from "./codec.js";
import { notification } from "./encode.js";
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
  readonly substitute: object;
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
  check(frame: Packed): void {
    // A UTF-16 unit is up to three bytes: few texts have to be measured.
    const max = this.#max - SEQ_BYTES;
    if (frame.length * 3 > max && sizeOf(frame) > max) {
      throw tooLarge(frame, `of at most ${this.#max}`);
    }
  }

  /** The hub closed 1009. What it has acknowledged it took: the largest of the rest is too large in any case. */
  takeOut(session: Session | undefined, user: SizeUser): void {
    const kept = session?.longest ?? "";
    const alone = user.longest(session === undefined);
    const frame = alone !== undefined && alone.packed.length > kept.length ? alone.packed : kept;
    if (frame !== "") {
      this.#max = Math.min(this.#max, sizeOf(frame) - 1);
    }
    if (frame !== kept) {
      alone?.refused?.(tooLarge(frame));
    } else if (session !== undefined && frame !== "") {
      const found = oversized(kept, session.codec.parse(kept) as Sent);
      session.substitute(kept, found.substitute);
      user.tooLarge(found);
    }
  }
}

/** The same for the caller of a served method. */
export function notSendable({ message }: Pick<Error, "message">): { code: number; message: string } {
  return { code: SERIALIZATION_ERROR, message };
}

/** In bytes. */
function sizeOf(frame: Packed): number {
  return typeof frame === "string" ? utf8(frame).length : frame.length;
}

function tooLarge(frame: Packed, why = "(close 1009)"): RpcError {
  const size = sizeOf(frame);
  return new RpcError({ code: INVALID_REQUEST, message: `${size} bytes ${why}: too large for the hub`, data: { size } });
}

/** What tells whose a message is. */
interface Sent {
  readonly id?: ForeignId;
  readonly method?: string;
  readonly params?: { readonly request_id?: ForeignId };
}

function oversized(frame: Packed, { id, method, params }: Sent): Oversized {
  const error = tooLarge(frame);
  const about = id ?? params?.request_id;
  if (method === undefined || method === "stream_chunk") {
    const substitute = { jsonrpc: "2.0", id: about, error: notSendable(error) };
    return { error, request: undefined, served: about, substitute };
  }
  return { error, request: about as number, served: undefined, substitute: notification("$/cancelRequest", { id: about }) };
}
