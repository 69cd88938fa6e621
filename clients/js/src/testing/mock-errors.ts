/**
 * What a hub says in its errors, and what it refuses before anything runs: names of topics and of methods.
 */
import { ERROR_CODES, type RpcErrorInit } from "../index.js";

const NAMES = new Map<number, string>(Object.entries(ERROR_CODES).map(([name, code]) => [code, name]));

/** The rows of the hub's table that do not say "fatal"; of these all but "fallback" are retryable. */
const RECOVERY = new Map<number, string>([
  ...[1001, 1002, 2002, 2003, 5001, 5002, 6003].map((code): [number, string] => [code, "retry"]),
  [2001, "restart_process"],
  ...[3001, 3002, 3003].map((code): [number, string] => [code, "fallback"]),
]);

/** Errors by which a callee says that it has executed nothing. */
const NOT_EXECUTED = new Set<number>([
  ERROR_CODES.METHOD_NOT_FOUND,
  ERROR_CODES.INVALID_PARAMS,
  ERROR_CODES.WORKER_OVERLOADED,
]);

const RESERVED = /^(?:(?:rpc|session|stream|system)\.|\$\/)|^(?:auth|history|publish|(?:un)?subscribe|method\.(?:un)?register)$/u;
const TOKEN = String.raw`[^\s.*>\p{Cc}]+`;
const TOPIC = new RegExp(String.raw`^${TOKEN}(?:\.${TOKEN})*$`, "u");
const PATTERN = new RegExp(String.raw`^(?:(?:${TOKEN}|\*)(?:\.(?:${TOKEN}|\*))*(?:\.>)?|>)$`, "u");
const HUBS_OWN = /^system(?:\.|$)|^jobs\.[0-9a-f]{32}$/u;

/** Of a call that comes while the hub stops. */
export const DRAINING: RpcErrorInit = {
  code: ERROR_CODES.WORKER_UNAVAILABLE,
  message: "the hub is stopping",
  maybeExecuted: false,
  data: { draining: true, retry_after_ms: 100 },
};

/** An error with what a hub says in it. */
export function wireError({ code, message, data, maybeExecuted }: RpcErrorInit): object {
  const recovery = RECOVERY.get(code) ?? "fatal";
  const said = {
    type: NAMES.get(code) ?? "APPLICATION_ERROR",
    recovery,
    retryable: recovery === "retry" || recovery === "restart_process",
    maybe_executed: maybeExecuted ?? false,
  };
  return { code, message, data: { ...said, ...(data as object | undefined) } };
}

/** Whether an error of a callee leaves open that it has executed something. */
export function mayHaveRun(code: number): boolean {
  return !NOT_EXECUTED.has(code);
}

/** Why a topic or pattern cannot be subscribed to; undefined if it can. */
export function faultOfPattern(topic: unknown): RpcErrorInit | undefined {
  return isName(topic, PATTERN) ? undefined : invalid(`${JSON.stringify(topic)} is not a valid pattern`);
}

/** Why a topic cannot be published to; undefined if it can. */
export function faultOfTopic(topic: unknown): RpcErrorInit | undefined {
  if (!isName(topic, TOPIC)) {
    return invalid(`${JSON.stringify(topic)} is not a valid topic`);
  }
  const message = `${topic}: topics under system., and those of jobs, are the hub's own`;
  return HUBS_OWN.test(topic) ? { code: ERROR_CODES.FORBIDDEN, message } : undefined;
}

/** Why a client cannot serve a method of this name; undefined if it can. */
export function faultOfMethod(name: unknown): RpcErrorInit | undefined {
  if (typeof name === "string" && RESERVED.test(name)) {
    return { code: ERROR_CODES.FORBIDDEN, message: `method.register: ${name} is reserved for the hub; register another name` };
  }
  return isName(name, TOPIC) ? undefined : invalid(`method.register: ${JSON.stringify(name)} is not a valid name`);
}

export function invalid(message: string): RpcErrorInit {
  return { code: ERROR_CODES.INVALID_PARAMS, message };
}

function isName(name: unknown, form: RegExp): name is string {
  return typeof name === "string" && name.length <= 256 && name.split(".").length <= 32 && form.test(name);
}

/** What is wrong with a call's metadata; undefined where nothing is. */
export function faultOfMetadata(metadata: unknown): RpcErrorInit | undefined {
  if (typeof metadata !== "object" || metadata === null || Array.isArray(metadata)) {
    return invalid("metadata: it has to be an object");
  }
  for (const [name, value] of Object.entries(metadata)) {
    if (FITS[name]?.(value) === false) {
      return invalid(`metadata: ${name}: ${JSON.stringify(value)} does not fit`);
    }
  }
  return undefined;
}

const FITS: Readonly<Record<string, (value: unknown) => boolean>> = {
  timeout_ms: (value) => typeof value === "number" && value > 0,
  priority: (value) => value === "high" || value === "normal" || value === "low",
  progress_token: (value) => typeof value === "string" || Number.isInteger(value),
  idempotency_key: (value) => typeof value === "string" && value.length > 0 && value.length <= 256,
  window: (value) =>
    typeof value === "object" &&
    value !== null &&
    Object.values(value).every((each) => Number.isInteger(each) && (each as number) > 0),
};
