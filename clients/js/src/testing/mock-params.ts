/**
 * What a mock hub refuses of the methods of its own, before it does anything.
 */
import { ERROR_CODES, type Position, type RpcErrorInit } from "../index.js";
import { isPattern } from "../topics.js";
import { faultOfMethod, faultOfPattern, faultOfTopic, invalid } from "./mock-errors.js";
import type { MockHub } from "./mock-hub.js";

/** What the clients that serve one method have to agree on. */
export interface Contract {
  readonly isStreaming: boolean;
  readonly isIdempotent: boolean;
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
  const { topic, recover, history, method: name } = params;
  switch (method) {
    case "subscribe":
      return missing(method, params, "topic") ?? faultOfPattern(topic) ?? faultOfStart(topic as string, recover as Position | undefined, history);
    case "publish":
      return missing(method, params, "topic", "data") ?? faultOfTopic(topic);
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

function faultOfStart(topic: string, recover: Position | undefined, history: unknown): RpcErrorInit | undefined {
  if (recover === undefined) {
    return undefined;
  }
  if (history !== undefined) {
    return invalid("subscribe: either recover or history: both say where to begin");
  }
  if (isPattern(topic)) {
    return invalid(`${topic} is a pattern, which has no position to recover from`);
  }
  return recover.offset >= 0 ? undefined : invalid("subscribe: recover.offset must be 0 or more");
}
