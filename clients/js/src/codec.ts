/**
 * How messages become frames. Everything else treats a frame as something that has a length.
 */

/** One encoded message: text, or bytes. */
export type Packed = string | Uint8Array<ArrayBuffer>;

/**
 * A form that messages are sent in: JSON, or that of `trunkline/msgpack`. Its members are this package's own affair, and may
 * change in any release.
 */
export interface Codec {
  /** What is offered to the hub, which has to agree. */
  readonly subprotocol: string;
  /**
   * The frame of a message.
   *
   * @throws TypeError naming the path (`params.items.2.x`) of a value that would not arrive as it is.
   */
  readonly encode: (message: object) => Packed;
  /** The frame of the same message with further members ahead of its own, of which it has some. */
  readonly join: (head: object, frame: Packed) => Packed;
  /**
   * What a frame says.
   *
   * @throws Error if it says nothing.
   */
  readonly parse: (frame: Packed) => unknown;
}
