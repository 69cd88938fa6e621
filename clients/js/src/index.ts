/**
 * Trunkline's client: JSON-RPC calls, streams and events, many at once over one WebSocket.
 *
 * @packageDocumentation
 */
export { ERROR_CODES, type ErrorName } from "./codes.js";
export { connect } from "./connect.js";
export {
  CancelledError,
  ConnectError,
  DisconnectedError,
  isHubError,
  OverloadedError,
  ProtocolError,
  RpcError,
  TimeoutError,
  TrunklineError,
  type ErrorKind,
  type HubError,
  type RpcErrorInit,
  type RpcErrorKind,
} from "./errors.js";
export type { CloseInfo, Hub, Published } from "./hub.js";
export type {
  EventMessage,
  Gap,
  GapReason,
  Params,
  Position,
  Priority,
  Recovery,
  TopicMessage,
} from "./messages.js";
export type { CallOptions, ConnectOptions, PublishOptions, SubscribeOptions } from "./options.js";
export type { WebSocketConstructor, WebSocketLike } from "./socket.js";
export type { ResultStream, StreamChunk } from "./stream.js";
export type { Subscription } from "./subscription.js";
