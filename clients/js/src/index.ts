/**
 * Trunkline's client: JSON-RPC calls and streams, many at once over one WebSocket.
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
export type { CloseInfo, Hub } from "./hub.js";
export type { Params, Priority, Recovery } from "./messages.js";
export type { CallOptions, ConnectOptions } from "./options.js";
export type { WebSocketConstructor, WebSocketLike } from "./socket.js";
export type { ResultStream, StreamChunk } from "./stream.js";
