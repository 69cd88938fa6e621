/**
 * The fixed table of error codes, name to number.
 *
 * JSON-RPC 2.0 defines -32700 and -32600 to -32603, the Language Server Protocol -32800; the positive
 * ones are the bridge's own.
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

/** The name of a row of {@link ERROR_CODES}, or of a code the table does not know. */
export type ErrorName = keyof typeof ERROR_CODES | "APPLICATION_ERROR";

const NAMES = new Map<number, ErrorName>();
for (const name of Object.keys(ERROR_CODES) as (keyof typeof ERROR_CODES)[]) {
  NAMES.set(ERROR_CODES[name], name);
}

/** The table's name for `code`; `"APPLICATION_ERROR"` for codes a method made up itself. */
export function errorNameOf(code: number): ErrorName {
  return NAMES.get(code) ?? "APPLICATION_ERROR";
}
