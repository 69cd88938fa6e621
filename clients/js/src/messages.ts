/**
 * The messages of the wire, as types, and nothing that runs.
 */

/** The subprotocol of `/ws`: JSON-RPC 2.0, one message a text frame. */
export const SUBPROTOCOL = "trunkline.v1+json";

/** Prefix of the subprotocol that carries a token where no header can be set. */
export const BEARER_SUBPROTOCOL = "trunkline.bearer.";

/** Scheduling class of a call. */
export type Priority = "low" | "normal" | "high";

/** What the hub advises after an error. */
export type Recovery = "retry" | "fallback" | "restart_process" | "fatal";

/** Parameters of a method: by name (an object) or by position (an array). */
export type Params = object;

/** The top-level `metadata` of a request. Keys not listed here are passed on untouched. */
export interface WireMetadata {
  timeout_ms?: number;
  priority?: Priority;
  idempotency_key?: string;
  progress_token?: number;
  [key: string]: unknown;
}

/** A request, or a notification where `id` is absent. */
export interface WireRequest {
  readonly jsonrpc: "2.0";
  readonly id?: number | undefined;
  readonly method: string;
  readonly params?: Params | undefined;
  readonly metadata?: WireMetadata | undefined;
}

/** The error object of a reply. */
export interface WireError {
  readonly code: number;
  readonly message: string;
  readonly data?: unknown;
}

/** The id of a request from the hub (`"h:<n>"`), echoed as it came. */
export type ForeignId = string | number;

/** One chunk of a stream, as it came. */
export interface WireChunk {
  readonly requestId: number;
  readonly type: string;
  readonly data: unknown;
  readonly index: number;
  readonly isFinal: boolean;
}

/** The answer to a request from the hub. */
export interface WireRefusal {
  readonly jsonrpc: "2.0";
  readonly id: ForeignId;
  readonly error: WireError;
}

/** What this client sends. */
export type Outgoing = WireRequest | WireRefusal;

/** A message from the hub, told apart. `broken` is a reply whose call must fail since it says nothing. */
export type Incoming =
  | { readonly kind: "result"; readonly id: number; readonly result: unknown }
  | { readonly kind: "error"; readonly id: number; readonly error: WireError }
  | { readonly kind: "broken"; readonly id: number; readonly why: string }
  | { readonly kind: "chunk"; readonly chunk: WireChunk }
  | { readonly kind: "progress"; readonly token: number; readonly value: unknown }
  | { readonly kind: "request"; readonly id: ForeignId; readonly method: string }
  | { readonly kind: "nonsense"; readonly why: string };
