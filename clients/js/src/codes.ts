/**
 * The fixed table of error codes, name to number.
 *
 * JSON-RPC 2.0 defines -32700 and -32600 to -32603, the Language Server Protocol -32800; the positive
 * ones are the hub's own. Nothing in this package needs the whole of it: it costs nobody who does not import it.
 */
export const ERROR_CODES = {
  PARSE_ERROR: -32700,
  INVALID_REQUEST: -32600,
  METHOD_NOT_FOUND: -32601,
  INVALID_PARAMS: -32602,
  INTERNAL_ERROR: -32603,
  CANCELLED: -32800,
  WORKER_UNAVAILABLE: 1001,
  COMMUNICATION_TIMEOUT: 1002,
  SERIALIZATION_ERROR: 1003,
  WORKER_CRASHED: 2001,
  WORKER_OVERLOADED: 2002,
  RESOURCE_EXHAUSTED: 2003,
  PIPELINE_NOT_FOUND: 3001,
  PIPELINE_INITIALIZATION_FAILED: 3002,
  PIPELINE_EXECUTION_ERROR: 3003,
  INVALID_CONFIGURATION: 4001,
  MISSING_DEPENDENCIES: 4002,
  DATABASE_CONNECTION_ERROR: 5001,
  INSUFFICIENT_RESOURCES: 5002,
  UNAUTHENTICATED: 6001,
  FORBIDDEN: 6002,
  RATE_LIMITED: 6003,
} as const;

/** The name of a row of {@link ERROR_CODES}, or another that the hub gave. `"APPLICATION_ERROR"` for codes a method made up. */
export type ErrorName = keyof typeof ERROR_CODES | "APPLICATION_ERROR" | (string & Record<never, never>);

export const INVALID_REQUEST = -32600;
export const METHOD_NOT_FOUND = -32601;
export const INTERNAL_ERROR = -32603;
export const CANCELLED = -32800;
export const WORKER_UNAVAILABLE = 1001;
export const COMMUNICATION_TIMEOUT = 1002;
export const SERIALIZATION_ERROR = 1003;
export const WORKER_OVERLOADED = 2002;
export const UNAUTHENTICATED = 6001;
export const RATE_LIMITED = 6003;

/** Close code: wrong or revoked credentials. */
export const NOT_AUTHENTICATED = 4501;
/** Close code: an origin, host, path or version that the hub does not serve. */
export const REFUSED = 4502;

/** Those that come without a word of the hub's: from other JSON-RPC servers, and from this client. */
const NAMES: Readonly<Record<number, ErrorName>> = {
  [-32700]: "PARSE_ERROR",
  [INVALID_REQUEST]: "INVALID_REQUEST",
  [METHOD_NOT_FOUND]: "METHOD_NOT_FOUND",
  [-32602]: "INVALID_PARAMS",
  [INTERNAL_ERROR]: "INTERNAL_ERROR",
  [CANCELLED]: "CANCELLED",
  [COMMUNICATION_TIMEOUT]: "COMMUNICATION_TIMEOUT",
};

/** The name of `code`, where the hub did not say it (`data.type`). */
export function errorNameOf(code: number): ErrorName {
  return NAMES[code] ?? "APPLICATION_ERROR";
}
