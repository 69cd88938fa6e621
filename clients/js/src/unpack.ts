/**
 * MessagePack -> a value, of what JSON can express.
 */

/** Shorter texts, if they are ASCII, are quicker read here. */
const SHORT_TEXT = 24;

/** A text may begin with U+FEFF, which is as good as any. */
const UTF8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/**
 * Unpacks one value. Binary data becomes a `Uint8Array` of its own; an integer that no number holds exactly, a `BigInt`.
 *
 * @throws Error if it is cut off, or has what JSON cannot express: an extension type, a key that is no text.
 */
export function unpack(bytes: Uint8Array<ArrayBuffer>): unknown {
  const unpacker = new Unpacker(bytes);
  const value = unpacker.value();
  if (unpacker.left > 0) {
    throw new RangeError(`${unpacker.left} bytes follow the message`);
  }
  return value;
}

class Unpacker {
  readonly #bytes: Uint8Array<ArrayBuffer>;
  readonly #view: DataView;
  #at = 0;

  constructor(bytes: Uint8Array<ArrayBuffer>) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  get left(): number {
    return this.#bytes.length - this.#at;
  }

  value(): unknown {
    const type = this.#natural(1);
    if (type < 0x80) {
      return type;
    }
    if (type < 0x90) {
      return this.#map(type & 0x0f);
    }
    if (type < 0xa0) {
      return this.#array(type & 0x0f);
    }
    if (type < 0xc0) {
      return this.#text(type & 0x1f);
    }
    return type < 0xe0 ? this.#typed(type) : type - 0x100;
  }

  #typed(type: number): unknown {
    switch (type) {
      case 0xc0:
        return null;
      case 0xc2:
      case 0xc3:
        return type === 0xc3;
      case 0xc4:
      case 0xc5:
      case 0xc6:
        return this.#take(this.#natural(1 << (type - 0xc4))).slice();
      case 0xd9:
      case 0xda:
      case 0xdb:
        return this.#text(this.#natural(1 << (type - 0xd9)));
      case 0xdc:
      case 0xdd:
        return this.#array(this.#natural(type === 0xdc ? 2 : 4));
      case 0xde:
      case 0xdf:
        return this.#map(this.#natural(type === 0xde ? 2 : 4));
      default:
        return this.#number(type);
    }
  }

  #number(type: number): number | bigint {
    switch (type) {
      case 0xca:
        return this.#view.getFloat32(this.#skip(4));
      case 0xcb:
        return this.#view.getFloat64(this.#skip(8));
      case 0xcc:
      case 0xcd:
      case 0xce:
        return this.#natural(1 << (type - 0xcc));
      case 0xcf:
        return exact(this.#natural(4), this.#natural(4));
      case 0xd0:
        return this.#view.getInt8(this.#skip(1));
      case 0xd1:
        return this.#view.getInt16(this.#skip(2));
      case 0xd2:
        return this.#view.getInt32(this.#skip(4));
      case 0xd3:
        return exact(this.#view.getInt32(this.#skip(4)), this.#natural(4));
      default:
        throw new TypeError(`type ${type} has no form in JSON`);
    }
  }

  #array(size: number): unknown[] {
    // It grows with what is there: a size is no more than somebody's word.
    const items: unknown[] = [];
    for (let count = 0; count < size; count += 1) {
      items.push(this.value());
    }
    return items;
  }

  #map(size: number): object {
    const members: Record<string, unknown> = {};
    for (let count = 0; count < size; count += 1) {
      const key = this.value();
      if (typeof key !== "string") {
        throw new TypeError(`a key is a ${typeof key}, no text`);
      }
      const value = this.value();
      if (key === "__proto__") {
        // An own member, as JSON.parse makes it.
        Object.defineProperty(members, key, { value, writable: true, enumerable: true, configurable: true });
      } else {
        members[key] = value;
      }
    }
    return members;
  }

  #text(size: number): string {
    const bytes = this.#take(size);
    if (size < SHORT_TEXT) {
      let text = "";
      for (const byte of bytes) {
        if (byte > 0x7f) {
          return UTF8.decode(bytes);
        }
        text += String.fromCodePoint(byte);
      }
      return text;
    }
    return UTF8.decode(bytes);
  }

  /** The bytes that come next. */
  #take(size: number): Uint8Array<ArrayBuffer> {
    const start = this.#skip(size);
    return this.#bytes.subarray(start, start + size);
  }

  /** A number of 1, 2 or 4 bytes. */
  #natural(size: number): number {
    const at = this.#skip(size);
    return size === 1 ? this.#view.getUint8(at) : size === 2 ? this.#view.getUint16(at) : this.#view.getUint32(at);
  }

  /** Where the next so many bytes begin. */
  #skip(size: number): number {
    const start = this.#at;
    if (size > this.left) {
      throw new RangeError("cut off");
    }
    this.#at += size;
    return start;
  }
}

function exact(upper: number, lower: number): number | bigint {
  const value = upper * 0x1_0000_0000 + lower;
  return Number.isSafeInteger(value) ? value : (BigInt(upper) << 32n) + BigInt(lower);
}
