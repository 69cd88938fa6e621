/**
 * What the package gives beside `connect`.
 */
export type { Codec } from "./codec.js";
export { ERROR_CODES, type ErrorName } from "./codes.js";
export {
  AuthenticationError,
  CancelledError,
  ConnectError,
  DisconnectedError,
  isHubError,
  OverloadedError,
  ProtocolError,
  RpcError,
  TimeoutError,
  TrunklineError,
  UsageError,
  type ErrorKind,
  type HubError,
  type RpcErrorInit,
  type RpcErrorKind,
} from "./errors.js";
export type { Handler, Registration, ServedCall, UnregisterOptions } from "./callee.js";
export type { CloseInfo, ConnectionState, Hub, Published, TopicHistory } from "./hub.js";
export type { Input } from "./input.js";
export type { DefaultMetadata, Interceptor, OutgoingCall } from "./intercepting.js";
export type {
  EventMessage,
  Gap,
  GapReason,
  Params,
  Position,
  Principal,
  Priority,
  Recovery,
  SessionEnd,
  TopicMessage,
  Window,
} from "./messages.js";
export type {
  CallOptions,
  ConnectOptions,
  HistoryOptions,
  JsonSchema,
  PublishOptions,
  ReconnectPolicy,
  RegisterOptions,
  RetryPolicy,
  StreamOptions,
  SubscribeOptions,
} from "./options.js";
export type { WebSocketConstructor, WebSocketLike } from "./socket.js";
export type { ResultStream, StreamChunk } from "./stream.js";
export type { Listener, Subscription } from "./subscription.js";
