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

/** A place in a topic's sequence of events. */
export interface Position {
  /** Another epoch means that the topic's count began anew. */
  readonly epoch: string;
  /** Counts the topic's events from 1, without gaps. */
  readonly offset: number;
}

/** Something that was published. Every subscription it reaches is given the same object. */
export interface EventMessage<T = unknown> extends Position {
  readonly kind: "event";
  readonly topic: string;
  readonly data: T;
  /** The hub's clock, in milliseconds since 1970. */
  readonly publishedAt: number;
}

/**
 * Why events are missing. From the hub: `slow_consumer` (too much waited for this connection), `history` (the
 * position asked for is older than what the hub keeps), `epoch` (it is of another epoch). From this client:
 * `client_slow` (the reader let more wait than `maxQueued`), `missing` (the hub left events out without a word).
 */
export type GapReason =
  | "slow_consumer"
  | "history"
  | "epoch"
  | "client_slow"
  | "missing"
  | (string & Record<never, never>);

/** Events that were not delivered: those from `from` to `to`, both included. */
export interface Gap {
  readonly kind: "gap";
  /**
   * The topic they belong to. If a reader has lost events of more topics than `maxQueued`, the losses of the other
   * topics are one gap: `topic` is then the subscription's pattern, `epoch` "", `from` and `to` 0.
   */
  readonly topic: string;
  readonly epoch: string;
  readonly from: number;
  /** `from - 1` if the epoch is another one, and nothing was published in it yet. */
  readonly to: number;
  /** How many events are missing, where that is known. */
  readonly count: number | undefined;
  readonly reason: GapReason;
}

/** What a subscription brings. */
export type TopicMessage<T = unknown> = EventMessage<T> | Gap;

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
  | TopicMessage
  | { readonly kind: "request"; readonly id: ForeignId; readonly method: string }
  | { readonly kind: "nonsense"; readonly why: string };
