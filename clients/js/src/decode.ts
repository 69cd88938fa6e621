/**
 * Text of one frame -> one {@link Incoming}. Pure, and total: whatever a peer sends becomes a value,
 * never an exception, because it would surface in a socket callback where nobody can catch it.
 */
import type { ForeignId, Incoming, WireError, WireRequest } from "./messages.js";

/** Members of a JSON object. */
export type Fields = Readonly<Record<string, unknown>>;

/** What a frame says, and its number in a session. */
export interface Decoded {
  readonly message: Incoming;
  readonly seq: number | undefined;
}

/** Reads one frame of text. */
export function decode(text: string): Decoded {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    // Said below.
  }
  if (!isFields(json)) {
    return { message: nonsense("not a JSON object", text), seq: undefined };
  }
  const { method, seq } = json;
  const message = typeof method === "string" ? decodeCall(json, method, text) : decodeReply(json, text);
  return { message, seq: typeof seq === "number" ? seq : undefined };
}

/** Whether it is a JSON object. */
export function isFields(value: unknown): value is Fields {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function decodeReply({ jsonrpc, id, error, result }: Fields, text: string): Incoming {
  if (typeof id !== "number") {
    // The hub answers `id: null` when it could not read what we sent.
    return nonsense("a reply to nothing", text);
  }
  if (jsonrpc === "2.0" && (result === undefined) !== (error === undefined)) {
    if (error === undefined) {
      return { kind: "result", id, result };
    }
    if (isFields(error) && fits(error, { code: "number", message: "string" })) {
      return { kind: "error", id, error: error as unknown as WireError };
    }
  }
  return { kind: "broken", id, why: `not a JSON-RPC 2.0 reply: ${excerpt(text)}` };
}

function decodeCall(json: Fields, method: string, text: string): Incoming {
  const { id, params, metadata } = json;
  if (isId(id)) {
    return { ...(json as unknown as WireRequest), kind: "request", metadata: isFields(metadata) ? metadata : {} };
  }
  return (isFields(params) ? decodeNotification(params, method, text) : undefined) ?? nonsense("not understood", text);
}

function decodeNotification(params: Fields, method: string, text: string): Incoming | undefined {
  const { id, data, topic, epoch, offset, from, to, count, reason, token, value, consumed, received } = params;
  const { request_id: requestId, published_at: publishedAt, publisher } = params;
  switch (method) {
    case "stream_chunk":
      return decodeChunk(params, text.length);
    case "event":
      return checked(
        { kind: "event", topic, data, epoch, offset, publishedAt, publisher },
        { topic: "string", epoch: "string", offset: "number", publishedAt: "number" },
      );
    case "event.gap":
      return checked(
        { kind: "gap", topic, epoch, from, to, count: typeof count === "number" ? count : undefined, reason },
        { topic: "string", epoch: "string", from: "number", to: "number", reason: "string" },
      );
    case "$/progress":
      return checked({ kind: "progress", token, value }, { token: "number" });
    case "$/cancelRequest":
      return isId(id) ? { kind: "cancel", id } : undefined;
    case "stream.credit":
      return isId(requestId) ? checked({ kind: "credit", id: requestId, consumed }, { consumed: "number" }) : undefined;
    case "session.ack":
      return checked({ kind: "ack", received }, { received: "number" });
    default:
      return undefined;
  }
}

function decodeChunk(params: Fields, units: number): Incoming | undefined {
  // The final chunk only counts: it has nothing that needs a type.
  const { request_id: requestId, chunk_type: type = "", data, index, is_final: isFinal = false } = params;
  return checked(
    { kind: "chunk", requestId, type, data, index, isFinal, units },
    { requestId: "number", index: "number", isFinal: "boolean", type: "string" },
  );
}

/** What members say, if they have the types by these names. */
function checked(message: Fields, types: Readonly<Record<string, string>>): Incoming | undefined {
  return fits(message, types) ? (message as unknown as Incoming) : undefined;
}

function fits(fields: Fields, types: Readonly<Record<string, string>>): boolean {
  return Object.keys(types).every((name) => typeof fields[name] === types[name]);
}

function isId(value: unknown): value is ForeignId {
  return typeof value === "string" || typeof value === "number";
}

function nonsense(what: string, text: string): Incoming {
  return { kind: "nonsense", why: `${what}: ${excerpt(text)}` };
}

function excerpt(text: string): string {
  return text.length > 200 ? `${text.slice(0, 200)}…` : text;
}
