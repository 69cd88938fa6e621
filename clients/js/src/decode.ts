/**
 * One frame -> one {@link Incoming}. Pure, and total: whatever a peer sends becomes a value,
 * never an exception, because it would surface in a socket callback where nobody can catch it.
 */
import type { Packed } from "./codec.js";
import type { ForeignId, Incoming, WireError, WireRequest } from "./messages.js";

/** Members of a JSON object. */
export type Fields = Readonly<Record<string, unknown>>;

/** What a frame says, and its number in a session. */
export interface Decoded {
  readonly message: Incoming;
  readonly seq: number | undefined;
}

/** Reads one frame, as `read` does. */
export function decode(frame: Packed, read: (frame: Packed) => unknown = parse): Decoded {
  let json: unknown;
  try {
    json = read(frame);
  } catch {
    // Said below.
  }
  if (!isFields(json)) {
    return { message: nonsense("not a JSON object", frame), seq: undefined };
  }
  const { method, seq } = json;
  const message = typeof method === "string" ? decodeCall(json, method, frame) : decodeReply(json, frame);
  return { message, seq: typeof seq === "number" ? seq : undefined };
}

/**
 * What a frame of JSON says.
 *
 * @throws Error if it is none.
 */
export function parse(text: Packed): unknown {
  return typeof text === "string" ? JSON.parse(text, text.includes(BYTES) ? revive : undefined) : undefined;
}

/** The JSON form of bytes is an object with this one member, of base64. */
export const BYTES = "$bytes";

/** The JSON form of bytes -> `Uint8Array`. An object that only looks like one stays as it is. */
function revive(_key: string, value: unknown): unknown {
  try {
    return isFields(value) && Object.keys(value).join() === BYTES && typeof value[BYTES] === "string"
      ? bytesOf(atob(value[BYTES]))
      : value;
  } catch {
    // No base64.
    return value;
  }
}

/** The bytes of a string of units below 256; a loop, since `Uint8Array.from` takes twenty times as long. */
function bytesOf(units: string): Uint8Array {
  const bytes = new Uint8Array(units.length);
  for (let index = 0; index < units.length; index += 1) {
    // oxlint-disable-next-line prefer-code-point -- all units are below 256
    bytes[index] = units.charCodeAt(index);
  }
  return bytes;
}

/** Whether it is a JSON object. */
export function isFields(value: unknown): value is Fields {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function decodeReply({ jsonrpc, id, error, result }: Fields, frame: Packed): Incoming {
  if (typeof id !== "number") {
    // The hub answers `id: null` when it could not read what we sent, or refuses the connection.
    const said = nonsense("a reply to nothing", frame);
    return id === null && isError(error) ? { ...said, error } : said;
  }
  if (jsonrpc === "2.0" && (result === undefined) !== (error === undefined)) {
    if (error === undefined) {
      return { kind: "result", id, result };
    }
    if (isError(error)) {
      return { kind: "error", id, error };
    }
  }
  return { kind: "broken", id, why: `not a reply: ${excerpt(frame)}` };
}

function isError(error: unknown): error is WireError {
  return isFields(error) && are("number", error.code) && are("string", error.message);
}

function decodeCall(json: Fields, method: string, frame: Packed): Incoming {
  const { id, params, metadata } = json;
  if (isId(id)) {
    return { ...(json as unknown as WireRequest), kind: "request", metadata: isFields(metadata) ? metadata : {} };
  }
  const told = isFields(params) && decodeNotification(params, method, frame.length);
  return told === false ? nonsense("not understood", frame) : (told as unknown as Incoming);
}

function decodeNotification(params: Fields, method: string, units: number): Fields | false {
  const { id, data, token, value, consumed, received } = params;
  // The final chunk only counts: it has nothing that needs a type.
  const { request_id: requestId, chunk_type: type = "", index, is_final: isFinal = false } = params;
  switch (method) {
    case "stream_chunk":
      return are("number", requestId, index) && are("boolean", isFinal) && are("string", type) &&
        { kind: "chunk", requestId, type, data, index, isFinal, units };
    case "event":
      return eventOf(params);
    case "event.gap":
      return gapIn(params);
    case "$/progress":
      return are("number", token) && { kind: "progress", token, value };
    case "$/cancelRequest":
      return isId(id) && { kind: "cancel", id };
    case "stream.credit":
      return isId(requestId) && are("number", consumed) && { kind: "credit", id: requestId, consumed };
    case "session.ack":
      return are("number", received) && { kind: "ack", received, isLast: params.last === true };
    default:
      return false;
  }
}

/** The event in the params of `event`; false if they are none. */
export function eventOf({ topic, data, epoch, offset, published_at: publishedAt, publisher, tenant }: Fields): Fields | false {
  return are("string", topic, epoch) && are("number", offset, publishedAt) &&
    { kind: "event", topic, data, epoch, offset, publishedAt, publisher, tenant };
}

/** The gap in the params of `event.gap`; false if they are none. */
export function gapIn({ topic, epoch, from, to, count, reason }: Fields): Fields | false {
  return are("string", topic, epoch, reason) && are("number", from, to) &&
    { kind: "gap", topic, epoch, from, to, count: are("number", count) ? count : undefined, reason };
}

/** Whether all are of the type. */
function are(type: string, ...values: readonly unknown[]): boolean {
  return values.every((value) => typeof value === type);
}

function isId(value: unknown): value is ForeignId {
  return typeof value === "string" || typeof value === "number";
}

function nonsense(what: string, frame: Packed): Incoming & { kind: "nonsense" } {
  return { kind: "nonsense", why: `${what}: ${excerpt(frame)}` };
}

function excerpt(frame: Packed): string {
  const head = frame.slice(0, 200);
  // Most of MessagePack can be read as well.
  const text = typeof head === "string" ? head : new TextDecoder().decode(head);
  return frame.length > 200 ? `${text}…` : text;
}
