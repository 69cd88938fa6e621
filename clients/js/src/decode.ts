/**
 * Text of one frame -> one {@link Incoming}. Pure, and total: whatever a peer sends becomes a value,
 * never an exception, because it would surface in a socket callback where nobody can catch it.
 */
import type { Incoming, WireError } from "./messages.js";

type Fields = Readonly<Record<string, unknown>>;

/** Reads one frame of text. */
export function decode(text: string): Incoming {
  let message: unknown;
  try {
    message = JSON.parse(text);
  } catch {
    return nonsense(`not JSON: ${excerpt(text)}`);
  }
  if (!isFields(message)) {
    return nonsense(`not a JSON object: ${excerpt(text)}`);
  }
  if (typeof message.method === "string") {
    return decodeCallFromHub(message, message.method, text);
  }
  return decodeReply(message, text);
}

function decodeReply(message: Fields, text: string): Incoming {
  const id = message.id;
  if (typeof id !== "number") {
    // The hub answers `id: null` when it could not read what we sent.
    return nonsense(`a reply to nothing we asked: ${excerpt(text)}`);
  }
  const hasResult = "result" in message;
  const error = message.error;
  if (message.jsonrpc !== "2.0" || hasResult === (error !== undefined)) {
    return { kind: "broken", id, why: `not a JSON-RPC 2.0 reply: ${excerpt(text)}` };
  }
  if (hasResult) {
    return { kind: "result", id, result: message.result };
  }
  if (!isWireError(error)) {
    return { kind: "broken", id, why: `not a JSON-RPC 2.0 error: ${excerpt(text)}` };
  }
  return { kind: "error", id, error };
}

function decodeCallFromHub(message: Fields, method: string, text: string): Incoming {
  const id = message.id;
  if (typeof id === "string" || typeof id === "number") {
    return { kind: "request", id, method };
  }
  const params = message.params;
  if (isFields(params)) {
    switch (method) {
      case "stream_chunk":
        return decodeChunk(params, text);
      case "event":
        return decodeEvent(params, text);
      case "event.gap":
        return decodeGap(params, text);
      case "$/progress":
        if (typeof params.token === "number") {
          return { kind: "progress", token: params.token, value: params.value };
        }
    }
  }
  return nonsense(`a notification this client does not know: ${excerpt(text)}`);
}

function decodeChunk(params: Fields, text: string): Incoming {
  const { request_id: requestId, chunk_type: type, data, index, is_final: isFinal = false } = params;
  if (
    typeof requestId !== "number" ||
    typeof index !== "number" ||
    typeof isFinal !== "boolean" ||
    // The final chunk only counts: it has nothing that needs a type.
    (typeof type !== "string" && !isFinal)
  ) {
    return nonsense(`a chunk with wrong members: ${excerpt(text)}`);
  }
  const chunkType = typeof type === "string" ? type : "";
  return { kind: "chunk", chunk: { requestId, type: chunkType, data, index, isFinal } };
}

function decodeEvent(params: Fields, text: string): Incoming {
  const { topic, data, epoch, offset, published_at: publishedAt } = params;
  if (
    typeof topic !== "string" ||
    typeof epoch !== "string" ||
    typeof offset !== "number" ||
    typeof publishedAt !== "number"
  ) {
    return nonsense(`an event with wrong members: ${excerpt(text)}`);
  }
  return { kind: "event", topic, data, epoch, offset, publishedAt };
}

function decodeGap(params: Fields, text: string): Incoming {
  const { topic, epoch, from, to, count, reason } = params;
  if (
    typeof topic !== "string" ||
    typeof epoch !== "string" ||
    typeof from !== "number" ||
    typeof to !== "number" ||
    typeof reason !== "string"
  ) {
    return nonsense(`a gap with wrong members: ${excerpt(text)}`);
  }
  return { kind: "gap", topic, epoch, from, to, count: typeof count === "number" ? count : undefined, reason };
}

function isFields(value: unknown): value is Fields {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function isWireError(value: unknown): value is WireError {
  return isFields(value) && typeof value.code === "number" && typeof value.message === "string";
}

function nonsense(why: string): Incoming {
  return { kind: "nonsense", why };
}

function excerpt(text: string): string {
  return text.length > 200 ? `${text.slice(0, 200)}…` : text;
}
