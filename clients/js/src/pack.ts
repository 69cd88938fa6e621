/**
 * One message -> MessagePack. Takes what `JSON.stringify` takes, as `encode.ts` allows it: `toJSON` is asked, members that are
 * undefined are left out, and what has no exact form is refused with its path.
 */
import { faultOf, isWellFormed, lossOf, MAX_DEPTH } from "./encode.js";

/** So many members are counted in the first byte of a map. */
const SHORT_MAP = 15;

/** Longer texts are encoded apart: room for the longest they may be would be three times theirs. */
const LONG_TEXT = 4_096;

/** Shorter texts, if they are ASCII, are quicker copied here. */
const SHORT_TEXT = 32;

const UTF8 = new TextEncoder();

/** The first byte of a map with at most 15 members. */
export function head(members: number): number {
  if (members > SHORT_MAP) {
    throw new RangeError(`a message has at most ${SHORT_MAP} members`);
  }
  return 0x80 | members;
}

/**
 * Packs a message, an object with at most 15 members.
 *
 * @throws TypeError naming the path (`params.items.2.x`) of a value that would not arrive as it is: see `encode`.
 */
export function pack(message: object): Uint8Array<ArrayBuffer> {
  const packer = new Packer();
  packer.value(message, message);
  return packer.bytes;
}

class Packer {
  #bytes = new Uint8Array(256);
  #view = new DataView(this.#bytes.buffer);
  #at = 0;
  /** Names of the members that lead to where we are. */
  readonly #path: (string | number)[] = [];

  get bytes(): Uint8Array<ArrayBuffer> {
    return this.#bytes.slice(0, this.#at);
  }

  /** Writes what is `sent` of a value: see {@link sentOf}. */
  value(sent: unknown, given: unknown): void {
    if (sent instanceof Uint8Array) {
      this.#size(sent.length, [], 0xc4, 0xc5, 0xc6);
      this.#raw(sent);
      return;
    }
    const fault = sent === undefined ? lossOf(given, true) : faultOf(sent);
    if (fault !== undefined) {
      this.#refuse(fault);
    }
    switch (typeof sent) {
      case "number":
        this.#number(sent);
        break;
      case "string":
        this.#text(sent);
        break;
      case "boolean":
        this.#byte(sent ? 0xc3 : 0xc2);
        break;
      default:
        if (sent === null) {
          this.#byte(0xc0);
        } else {
          this.#holder(sent as object);
        }
    }
  }

  #holder(value: object): void {
    if (this.#path.length > MAX_DEPTH) {
      this.#refuse(`is nested deeper than ${MAX_DEPTH} levels`);
    }
    if (Array.isArray(value)) {
      this.#array(value);
    } else {
      this.#map(value);
    }
  }

  #array(items: readonly unknown[]): void {
    this.#size(items.length, [0x90, 15], undefined, 0xdc, 0xdd);
    const depth = this.#path.length;
    // By index: holes are items that are undefined.
    for (let index = 0; index < items.length; index += 1) {
      const item = items[index];
      if (typeof item === "number" && Math.abs(item) <= Number.MAX_SAFE_INTEGER) {
        this.#number(item);
      } else {
        this.#path[depth] = index;
        this.value(sentOf(item, index), item);
        this.#path.length = depth;
      }
    }
  }

  #map(value: object): void {
    const members: [key: string, sent: unknown, given: unknown][] = [];
    const depth = this.#path.length;
    for (const [key, given] of Object.entries(value)) {
      const sent = sentOf(given, key);
      const fault = (sent === undefined ? lossOf(given, false) : undefined) ?? (isWellFormed(key) ? undefined : "has a lone surrogate");
      if (fault !== undefined) {
        this.#path[depth] = key;
        this.#refuse(fault);
      }
      if (sent !== undefined) {
        members.push([key, sent, given]);
      }
    }
    this.#size(members.length, [0x80, SHORT_MAP], undefined, 0xde, 0xdf);
    for (const [key, sent, given] of members) {
      this.#text(key);
      this.#path[depth] = key;
      this.value(sent, given);
      this.#path.length = depth;
    }
  }

  #refuse(fault: string): never {
    throw new TypeError(`${this.#path.join(".")} ${fault}`);
  }

  #number(value: number): void {
    if (!Number.isInteger(value) || Object.is(value, -0)) {
      this.#grow(9);
      this.#view.setUint8(this.#at, 0xcb);
      this.#view.setFloat64(this.#at + 1, value);
      this.#at += 9;
    } else if (value >= 0) {
      this.#natural(value);
    } else {
      this.#negative(value);
    }
  }

  #natural(value: number): void {
    if (value < 0x80) {
      this.#byte(value);
    } else if (value < 0x1_0000_0000) {
      this.#size(value, [], 0xcc, 0xcd, 0xce);
    } else {
      this.#long(0xcf, value);
    }
  }

  #negative(value: number): void {
    if (value >= -0x20) {
      this.#byte(value & 0xff);
    } else if (value >= -0x80) {
      this.#byte(0xd0);
      this.#byte(value & 0xff);
    } else if (value >= -0x8000_0000) {
      this.#grow(5);
      this.#view.setUint8(this.#at, 0xd2);
      this.#view.setInt32(this.#at + 1, value);
      this.#at += 5;
    } else {
      this.#long(0xd3, value);
    }
  }

  /** Eight bytes, of which the upper four may have a sign. */
  #long(type: number, value: number): void {
    this.#grow(9);
    this.#view.setUint8(this.#at, type);
    this.#view.setInt32(this.#at + 1, Math.floor(value / 0x1_0000_0000));
    this.#view.setUint32(this.#at + 5, value >>> 0);
    this.#at += 9;
  }

  #text(text: string): void {
    if (text.length < SHORT_TEXT && this.#ascii(text)) {
      return;
    }
    if (text.length > LONG_TEXT) {
      const bytes = UTF8.encode(text);
      this.#textSize(bytes.length);
      this.#raw(bytes);
      return;
    }
    this.#grow(5 + text.length * 3);
    const sizes = this.#at;
    this.#textSize(text.length);
    const { written } = UTF8.encodeInto(text, this.#bytes.subarray(this.#at));
    if (written !== text.length) {
      // Its size may take more room than was left for it: the text makes way first.
      const start = this.#at;
      this.#bytes.copyWithin(sizes + textHead(written), start, start + written);
      this.#at = sizes;
      this.#textSize(written);
    }
    this.#at += written;
  }

  /** Writes a short text; false, and nothing written, if it is not of ASCII. */
  #ascii(text: string): boolean {
    this.#grow(SHORT_TEXT + 1);
    for (let index = 0; index < text.length; index += 1) {
      // oxlint-disable-next-line prefer-code-point -- units: those above 127 end it
      const unit = text.charCodeAt(index);
      if (unit > 0x7f) {
        return false;
      }
      this.#bytes[this.#at + 1 + index] = unit;
    }
    this.#bytes[this.#at] = 0xa0 | text.length;
    this.#at += 1 + text.length;
    return true;
  }

  #textSize(size: number): void {
    this.#size(size, [0xa0, 31], 0xd9, 0xda, 0xdb);
  }

  /**
   * Writes a size, or a natural number: in the type itself, or in 1, 2 or 4 bytes behind one of three.
   *
   * @param short the type that has it, and up to which.
   */
  #size(size: number, [short, most = -1]: readonly number[], byte: number | undefined, two: number, four: number): void {
    if (short !== undefined && size <= most) {
      this.#byte(short | size);
      return;
    }
    this.#grow(5);
    if (byte !== undefined && size < 0x100) {
      this.#byte(byte);
      this.#byte(size);
    } else if (size < 0x1_0000) {
      this.#byte(two);
      this.#view.setUint16(this.#at, size);
      this.#at += 2;
    } else {
      this.#byte(four);
      this.#view.setUint32(this.#at, size);
      this.#at += 4;
    }
  }

  #byte(byte: number): void {
    this.#grow(1);
    this.#bytes[this.#at] = byte;
    this.#at += 1;
  }

  #raw(bytes: Uint8Array): void {
    this.#grow(bytes.length);
    this.#bytes.set(bytes, this.#at);
    this.#at += bytes.length;
  }

  #grow(by: number): void {
    const needed = this.#at + by;
    if (needed > this.#bytes.length) {
      const larger = new Uint8Array(Math.max(needed, this.#bytes.length * 2));
      larger.set(this.#bytes);
      this.#bytes = larger;
      this.#view = new DataView(larger.buffer);
    }
  }
}

/** How many bytes the type and size of a text take that is encoded in place. */
function textHead(size: number): number {
  return size < 32 ? 1 : size < 0x100 ? 2 : 3;
}

/** What is sent of a value, as `JSON.stringify` has it; bytes before `toJSON`, which Node's Buffer has. */
function sentOf(given: unknown, key: string | number): unknown {
  if (given instanceof ArrayBuffer) {
    return new Uint8Array(given);
  }
  if (typeof given !== "object" || given === null || given instanceof Uint8Array) {
    return given;
  }
  const { toJSON } = given as { toJSON?: unknown };
  const sent: unknown = typeof toJSON === "function" ? toJSON.call(given, String(key)) : given;
  // Of the boxes of scalars only that of a text has members, so that it is not refused.
  return typeof sent === "object" && sent !== null && Object.getPrototypeOf(sent) === String.prototype ? sent.valueOf() : sent;
}
