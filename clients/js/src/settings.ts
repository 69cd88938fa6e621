/**
 * The options of `connect`, checked and complete.
 */
import { safely } from "./callbacks.js";
import type { ConnectOptions, ReconnectPolicy, RetryPolicy } from "./options.js";
import type { Platform, WebSocketConstructor } from "./socket.js";
import { checkPositive, MAX_TIMER_MS } from "./timeouts.js";

const NO_RETRY: RetryPolicy = { attempts: 1, baseDelayMs: 1, factor: 1 };
const RETRY: RetryPolicy = { attempts: 3, baseDelayMs: 1_000, factor: 2 };
const RECONNECT = { minDelayMs: 500, maxDelayMs: 20_000 };
const LIMITS = { connectTimeoutMs: 10_000, pingIntervalMs: 30_000, pingTimeoutMs: 10_000 };

/** Options with their defaults. */
export interface Settings {
  readonly url: string;
  /** The URL as it may stand in a log: no password, no query. */
  readonly name: string;
  readonly token: ConnectOptions["token"];
  readonly WebSocket: WebSocketConstructor;
  readonly platform: Platform;
  readonly connectTimeoutMs: number;
  readonly session: boolean;
  /** Undefined: not at all. */
  readonly reconnect: { readonly minMs: number; readonly maxMs: number } | undefined;
  readonly retry: RetryPolicy;
  readonly maxQueued: number;
  readonly maxQueuedBytes: number;
  readonly pingIntervalMs: number;
  readonly pingTimeoutMs: number;
  /** Must not throw. */
  readonly warn: (message: string) => void;
}

/**
 * @throws TypeError if an option makes no sense.
 * @throws ConnectError if there is no WebSocket to use.
 */
export async function settingsOf(
  platform: Platform,
  target: string | URL,
  options: ConnectOptions,
): Promise<Settings> {
  const { token, session = true, reconnect = true, retry, maxQueued = 1_000, maxQueuedBytes = 8_388_608 } = options;
  if (token === "") {
    throw new TypeError("token is empty");
  }
  const url = String(target);
  return {
    url,
    name: url.replace(/\/\/[^/]*@/u, "//").replace(/\?.*/u, ""),
    token,
    session,
    reconnect: reconnect === false ? undefined : backoffOf(reconnect === true ? {} : reconnect),
    retry: policyOf(retry, RETRY),
    maxQueued,
    maxQueuedBytes,
    ...complete(LIMITS, options),
    warn: (message) => {
      safely(() => options.onWarning?.(message));
    },
    WebSocket: options.WebSocket ?? (await platform.findWebSocket()),
    platform,
  };
}

function backoffOf(policy: ReconnectPolicy): Settings["reconnect"] {
  const { minDelayMs: minMs, maxDelayMs: maxMs } = complete(RECONNECT, policy);
  return { minMs, maxMs };
}

/** @throws TypeError if a member makes no sense. */
export function policyOf(policy: Partial<RetryPolicy> | false | undefined, preset: RetryPolicy): RetryPolicy {
  return policy === false ? NO_RETRY : complete(preset, policy);
}

/**
 * The preset, with what is set instead.
 *
 * @throws TypeError unless all are positive numbers. None is larger than what a timer takes.
 */
function complete<T extends Readonly<Record<keyof T, number>>>(preset: T, set: { readonly [K in keyof T]?: number | undefined } = {}): T {
  const names = Object.keys(preset) as (keyof T & string)[];
  return Object.fromEntries(
    names.map((name) => [name, Math.min(checkPositive(name, set[name] ?? preset[name]), MAX_TIMER_MS)]),
  ) as T;
}
