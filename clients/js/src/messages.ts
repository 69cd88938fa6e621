/**
 * The messages of the wire, as types, and nothing that runs.
 */

/** The subprotocol of `/ws`: JSON-RPC 2.0, one message a text frame. */
export const SUBPROTOCOL = "trunkline.v1+json";

/** Prefix of the subprotocol that carries a token where no header can be set. */
export const BEARER_SUBPROTOCOL = "trunkline.bearer.";

/** The subprotocol of who cannot read the HTTP answer that refuses an upgrade: it is accepted, told why, and closed. */
export const REFUSAL_SUBPROTOCOL = "trunkline.refusal";

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
  idempotency_epoch?: string;
  progress_token?: number;
  window?: Window;
  [key: string]: unknown;
}

/** How far a stream may run ahead of its reader; the hub counts at most 1,024 items and 4 MiB. */
export interface Window {
  /** In chunks. Default 64. */
  readonly items?: number | undefined;
  /** In bytes of JSON. Default 262,144. */
  readonly bytes?: number | undefined;
}

/** Why a session did not go on: see SPEC.md, Sessions. */
export type SessionEnd = "unknown" | "expired" | "overflow" | "owner_lost";

/** The error object of a reply. */
export interface WireError {
  readonly code: number;
  readonly message: string;
  readonly data?: unknown;
}

/** The id of a request from the hub (`"h:<n>"`), echoed as it came. */
export type ForeignId = string | number;

/** Who makes a call, as the hub knows it: the principal of the outermost call, through however many methods and jobs. */
export interface Principal {
  readonly name: string;
  readonly roles: readonly string[];
  readonly tenant: string;
  /** What the hub passes on of the credentials. */
  readonly claims: Readonly<Record<string, unknown>>;
  /** Patterns of the collections that it may use; left out where it may use all. */
  readonly collections?: readonly string[];
}

/** A request of the hub: a call of a method that this client may serve. */
export interface WireRequest {
  readonly id: ForeignId;
  readonly method: string;
  readonly params: unknown;
  readonly metadata: Readonly<Record<string, unknown>>;
  readonly principal: Principal | undefined;
}

/** One chunk of a stream, as it came. */
export interface WireChunk {
  readonly requestId: number;
  readonly type: string;
  readonly data: unknown;
  readonly index: number;
  readonly isFinal: boolean;
  /** Length of its frame: bytes, or UTF-16 units. */
  readonly units: number;
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
  /** The name of the principal that published it; undefined where the hub did, or does not tell. */
  readonly publisher?: string | undefined;
  /** The publisher's tenant, on topics that tenants share; undefined where it is `default`, and on the tenant's own topics. */
  readonly tenant?: string | undefined;
}

/**
 * Why events are missing. From the hub: `slow_consumer` (too much waited for this connection), `history` (the
 * position asked for is older than what the hub keeps), `epoch` (it is of another epoch). From this client:
 * `client_slow` (the reader let more wait than `maxQueued`), `missing` (the hub left events out without a word),
 * `disconnected` (a cut after which a pattern could not be recovered).
 */
export type GapReason =
  | "slow_consumer"
  | "history"
  | "epoch"
  | "client_slow"
  | "missing"
  | "disconnected"
  | (string & Record<never, never>);

/** Events that were not delivered: those from `from` to `to`, both included. */
export interface Gap {
  readonly kind: "gap";
  /**
   * The topic they belong to. If a reader has lost events of more topics than `maxQueued`, the losses of the other
   * topics are one gap: `topic` is then the subscription's pattern, `epoch` "", `from` and `to` 0. So it is after a cut.
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

/** A reply. `broken` is one whose call must fail since it says nothing. */
export type Reply =
  | { readonly kind: "result"; readonly id: number; readonly result: unknown }
  | { readonly kind: "error"; readonly id: number; readonly error: WireError }
  | { readonly kind: "broken"; readonly id: number; readonly why: string };

/** A message from the hub, told apart. */
export type Incoming =
  | Reply
  | TopicMessage
  | ({ readonly kind: "chunk" } & WireChunk)
  | { readonly kind: "progress"; readonly token: number; readonly value: unknown }
  | { readonly kind: "credit"; readonly id: ForeignId; readonly consumed: number }
  | { readonly kind: "cancel"; readonly id: ForeignId }
  /** `isLast`: the hub is stopping, and acts on no later frame. */
  | { readonly kind: "ack"; readonly received: number; readonly isLast: boolean }
  | ({ readonly kind: "request" } & WireRequest)
  /** `error` is the hub's own, that belongs to no request. */
  | { readonly kind: "nonsense"; readonly why: string; readonly error?: WireError | undefined };
