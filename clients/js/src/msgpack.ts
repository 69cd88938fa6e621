/**
 * Messages as MessagePack, in binary frames: bytes travel as bytes, floats in nine bytes. For the option `codec` of `connect`.
 *
 * Nothing else loads this module: who does not use it does not pay for it.
 *
 * @packageDocumentation
 */
import type { Codec, Packed } from "./codec.js";
import { unpack } from "./unpack.js";
import { head, pack } from "./pack.js";

export type { Codec, Packed } from "./codec.js";

/**
 * MessagePack, for `connect(url, { codec: msgpack })`.
 *
 * What can be sent is what can be sent as JSON, refused with the same words: both arrive as the same values. But `-0` keeps its
 * sign, and an integer beyond `Number.MAX_SAFE_INTEGER` that somebody else sent arrives as a `BigInt`, where JSON rounds it.
 */
export const msgpack: Codec = {
  subprotocol: "trunkline.v1+msgpack",
  encode: pack,
  join: (ahead, frame) => {
    const [first, rest] = [pack(ahead), frame as Uint8Array<ArrayBuffer>];
    const whole = new Uint8Array(first.length + rest.length - 1);
    whole.set(first);
    whole[0] = head(membersOf(first) + membersOf(rest));
    whole.set(rest.subarray(1), first.length);
    return whole;
  },
  parse: (frame: Packed) => {
    if (typeof frame === "string") {
      throw new TypeError("a text frame");
    }
    return unpack(frame);
  },
};

/** How many members a message has: they are few enough for the count to stand in its first byte. */
function membersOf(message: Uint8Array): number {
  return (message[0] ?? 0) & 0x0f;
}
