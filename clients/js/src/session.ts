/**
 * This side's half of a session: what it sent is kept until the hub has it, and is sent again after a cut. Pure: no
 * socket, no clock. The hub runs the same core (protocol/trunkline_protocol/session.py).
 *
 * Frames of one direction are numbered from 1 without gaps. A receiver takes the number that comes next, drops those it
 * has, and anything else is a violation. Acknowledgements are cumulative.
 */

import type { Codec, Packed } from "./codec.js";
import { JSON_CODEC } from "./encode.js";
import { MAX_TIMER_MS } from "./timeouts.js";

/** So many frames are acknowledged at once. */
const ACK_FRAMES = 32;

/** So much is acknowledged at once, though it be few frames: in units of their length, of which none is more than 3 bytes. */
const ACK_UNITS = 65_536 / 3;

/** How long an acknowledgement may wait for further frames, in milliseconds. */
export const ACK_MS = 200;

export class Session {
  /** A secret: it is all it takes to go on with the session. */
  readonly id: string;
  /** How long the hub waits for this client after a cut, in milliseconds. */
  readonly ttlMs: number;
  readonly codec: Codec;
  /** What the hub may not have yet, oldest first. */
  readonly #kept: Packed[] = [];
  #units = 0;
  #acknowledged = 0;
  #received = 0;
  #dueFrames = 0;
  #dueUnits = 0;
  /** Whether the hub acts on no frame that is kept: it is stopping. */
  isEnding = false;

  constructor(id: string, ttlMs: number, codec = JSON_CODEC) {
    this.id = id;
    this.codec = codec;
    this.ttlMs = Math.min(ttlMs, MAX_TIMER_MS);
  }

  /** How many frames are kept. */
  get frames(): number {
    return this.#kept.length;
  }

  /** How long they are together: bytes, or UTF-16 units. */
  get units(): number {
    return this.#units;
  }

  /** Whether what came is to be acknowledged now, and not a little later. */
  get isAckDue(): boolean {
    return this.#dueFrames >= ACK_FRAMES || this.#dueUnits >= ACK_UNITS;
  }

  /** Gives a frame the next number, and keeps it. Write what this returns, in this order. */
  number(frame: Packed): Packed {
    const numbered = this.#numbered(this.#kept.length, frame);
    this.#kept.push(numbered);
    this.#units += numbered.length;
    return numbered;
  }

  /**
   * The hub has all frames up to `received`. What it said earlier is no news.
   *
   * @throws RangeError if they were never sent.
   */
  acknowledge(received: number): void {
    const news = received - this.#acknowledged;
    if (!(news <= this.#kept.length)) {
      throw new RangeError(`frame ${received} was acknowledged, but never sent`);
    }
    if (news > 0) {
      for (const frame of this.#kept.splice(0, news)) {
        this.#units -= frame.length;
      }
      this.#acknowledged = received;
    }
  }

  /**
   * A new connection, and the hub has all frames up to `received`: gives those to send before anything new.
   *
   * @throws RangeError if they were never sent, or if it had acknowledged more.
   */
  resume(received: number): readonly Packed[] {
    if (received < this.#acknowledged) {
      throw new RangeError(`frame ${received} was acknowledged after ${this.#acknowledged}`);
    }
    this.acknowledge(received);
    return [...this.#kept];
  }

  /** Ids of the requests that the hub certainly did not act on: it said so when it stopped. */
  get unread(): ReadonlySet<number> {
    const kept = this.isEnding ? this.#kept : [];
    return new Set(kept.map((frame) => Number((this.codec.parse(frame) as { id?: unknown }).id)));
  }

  /** The longest frame that is kept, or "". */
  get longest(): Packed {
    return this.#kept.reduce<Packed>((longest, frame) => (frame.length > longest.length ? frame : longest), "");
  }

  /** The hub will never take a frame that is kept: it is sent another one, under the same number. */
  substitute(frame: Packed, by: object): void {
    const at = this.#kept.indexOf(frame);
    const numbered = this.#numbered(at, this.codec.encode(by));
    this.#kept[at] = numbered;
    this.#units += numbered.length - frame.length;
  }

  #numbered(at: number, frame: Packed): Packed {
    return this.codec.join({ seq: this.#acknowledged + at + 1 }, frame);
  }

  /**
   * A numbered frame came: whether it is new. If not, drop it. Look at `isAckDue` afterwards.
   *
   * @throws RangeError if it is not the next one.
   */
  receive(seq: number, units: number): boolean {
    const isNew = seq === this.#received + 1;
    if (!isNew && !(seq <= this.#received)) {
      throw new RangeError(`frame ${seq} came, ${this.#received + 1} was due`);
    }
    // One that is here already counts as well: the hub would not have sent it if it knew.
    this.#dueFrames += 1;
    this.#dueUnits += units;
    this.#received += Number(isNew);
    return isNew;
  }

  /** The number of the last frame that came, to be told to the hub now. */
  takeAck(): number {
    this.#dueFrames = 0;
    this.#dueUnits = 0;
    return this.#received;
  }
}
