/**
 * What a mock hub says of itself, and what it refuses before it does anything.
 */
import { ERROR_CODES, type RpcErrorInit } from "../index.js";
import { isPattern } from "../topics.js";
import { faultOfMethod, faultOfPattern, faultOfTopic, invalid } from "./mock-errors.js";
import type { MockHub } from "./mock-hub.js";
import type { PatternPosition } from "./mock-topics.js";

/** What the clients that serve one method have to agree on. */
export interface Contract {
  readonly isStreaming: boolean;
  readonly isIdempotent: boolean;
}

const LIMITS = { max_message_bytes: 16_777_216, max_depth: 128, max_batch: 100 };

/** What `session.open` and `rpc.ping` say of a hub. */
export function aboutOf(hub: MockHub): object {
  return { limits: LIMITS, hub: { name: "trunkline", version: "mock" }, idempotency_epoch: hub.topics.run };
}

/** A repetition for another run of the hub, which knew the key, is refused, unless it may run twice. */
export function faultOfEpoch(method: string, metadata: Readonly<Record<string, unknown>>, hub: MockHub): RpcErrorInit | undefined {
  const { idempotency_epoch: epoch } = metadata;
  const { run } = hub.topics;
  const mayRunTwice = hub.calleeOf(method)?.callee.contracts.get(method)?.isIdempotent === true;
  if (epoch === undefined || epoch === run || mayRunTwice || method === "jobs.create") {
    return undefined;
  }
  const message = `${method} may have been executed by a hub that is gone, with its idempotency keys (epoch ${JSON.stringify(epoch)}, not ${run})`;
  return { code: ERROR_CODES.WORKER_CRASHED, message, maybeExecuted: true, data: { idempotency: "epoch" } };
}

export function inFlight(id: number | string): RpcErrorInit {
  const message = `id ${JSON.stringify(id)} is in flight on this connection; use another or wait for its reply`;
  return { code: ERROR_CODES.INVALID_REQUEST, message, data: { duplicate_id: id } };
}

export function contractOf(params: Readonly<Record<string, unknown>>): Contract {
  return { isStreaming: params.streaming === true, isIdempotent: params.idempotent === true };
}

/** What is wrong with the params of a method of the hub's own; undefined where nothing is. */
export function faultOf(method: string, params: Readonly<Record<string, unknown>>, hub: MockHub): RpcErrorInit | undefined {
  const { topic, recover, history, limit, method: name } = params;
  switch (method) {
    case "subscribe":
      return missing(method, params, "topic") ?? faultOfPattern(topic) ?? faultOfStart(topic as string, recover as PatternPosition | undefined, history);
    case "publish":
      return missing(method, params, "topic", "data") ?? faultOfTopic(topic);
    case "history":
      return missing(method, params, "topic") ?? faultOfPattern(topic) ?? faultOfHistory(topic as string, limit);
    case "method.register":
      return hub.methods.has(name as string)
        ? { code: ERROR_CODES.FORBIDDEN, message: `method.register: ${String(name)} is a method of the executors` }
        : (faultOfMethod(name) ?? faultOfRegistration(name as string, params, hub));
    default:
      return undefined;
  }
}

function faultOfRegistration(name: string, params: Readonly<Record<string, unknown>>, hub: MockHub): RpcErrorInit | undefined {
  const { isStreaming, isIdempotent } = contractOf(params);
  const isAgreed = hub.calleesOf(name).every((callee) => {
    const other = callee.callee.contracts.get(name);
    return other?.isStreaming === isStreaming && other.isIdempotent === isIdempotent;
  });
  const words = "is registered already, with other streaming or idempotent: all its callees have to agree";
  return isAgreed ? undefined : invalid(`${name} ${words}`);
}

function missing(method: string, params: object, ...members: readonly string[]): RpcErrorInit | undefined {
  const absent = members.find((member) => !(member in params));
  return absent === undefined ? undefined : invalid(`${method}: Object missing required field \`${absent}\``);
}

function faultOfStart(topic: string, recover: PatternPosition | undefined, history: unknown): RpcErrorInit | undefined {
  if (history !== undefined && recover !== undefined) {
    return invalid("subscribe: either recover or history: both say where to begin");
  }
  if (history !== undefined && isPattern(topic)) {
    return invalid(`subscribe: ${topic} is a pattern: which of its topics' events are the latest is not kept`);
  }
  if (recover?.topics !== undefined && !isPattern(topic)) {
    return invalid(`subscribe: recover.topics is of patterns, and ${topic} is a topic`);
  }
  return recover === undefined || recover.offset >= 0 ? undefined : invalid("subscribe: recover.offset must be 0 or more");
}

function faultOfHistory(topic: string, limit: unknown): RpcErrorInit | undefined {
  if (isPattern(topic)) {
    return invalid(`history: ${topic} is a pattern: name a topic`);
  }
  const fits = limit === undefined || (Number.isInteger(limit) && (limit as number) >= 1 && (limit as number) <= 1_000);
  return fits ? undefined : invalid(`history: limit has to be 1 to 1,000, not ${JSON.stringify(limit)}`);
}
