/**
 * The options of `connect`, checked and complete.
 */
import { safely } from "./callbacks.js";
import type { Codec } from "./codec.js";
import { JSON_CODEC } from "./encode.js";
import type { Defaults } from "./intercepting.js";
import type { ConnectOptions, ReconnectPolicy, RetryPolicy } from "./options.js";
import type { Platform, WebSocketConstructor } from "./socket.js";
import { checkPositive, MAX_TIMER_MS } from "./timeouts.js";
import { checkKnown, checkObject } from "./known.js";

const NO_RETRY: RetryPolicy = { attempts: 1, baseDelayMs: 1, factor: 1 };
const RETRY: RetryPolicy = { attempts: 3, baseDelayMs: 1_000, factor: 2 };
export const PAUSES: Pauses = { minMs: 500, maxMs: 20_000 };
const LIMITS = { connectTimeoutMs: 10_000, pingIntervalMs: 30_000, pingTimeoutMs: 10_000 };

/** Limits of the pauses between attempts to connect, in milliseconds. */
export interface Pauses {
  readonly minMs: number;
  readonly maxMs: number;
}

/** What {@link ConnectOptions} may have. */
const KNOWN = new Set(
  `token connectTimeoutMs waitMs signal session reconnect retry metadata timeoutMs interceptors maxQueued maxQueuedBytes
  pingIntervalMs pingTimeoutMs headers codec
  socketOptions WebSocket onWarning`.split(/\s+/u),
);

/** Options with their defaults. */
export interface Settings {
  readonly url: string;
  /** The URL as it may stand in a log: no password, no query. */
  readonly name: string;
  readonly token: ConnectOptions["token"];
  readonly WebSocket: WebSocketConstructor | undefined;
  readonly headers: ConnectOptions["headers"];
  readonly socketOptions: ConnectOptions["socketOptions"];
  readonly platform: Platform;
  readonly codec: Codec;
  readonly connectTimeoutMs: number;
  readonly session: boolean;
  /** Undefined: not at all. */
  readonly reconnect: Pauses | undefined;
  readonly retry: RetryPolicy;
  readonly defaults: Defaults;
  readonly maxQueued: number;
  readonly maxQueuedBytes: number;
  readonly pingIntervalMs: number;
  readonly pingTimeoutMs: number;
  /** Must not throw. */
  readonly warn: (message: string) => void;
}

/** @throws TypeError if an option makes no sense. */
export function settingsOf(platform: Platform, target: string | URL, options: ConnectOptions): Settings {
  checkKnown(options, KNOWN);
  const { token, session = true, reconnect = true, retry, maxQueued = 1_000, maxQueuedBytes = 8_388_608 } = options;
  const { connectTimeoutMs, pingIntervalMs, pingTimeoutMs, codec = JSON_CODEC } = options;
  checkObject(codec);
  if (typeof token !== "function") {
    checkToken(token);
  }
  const url = checkUrl(String(target));
  return {
    url,
    name: url.replace(/\/\/[^/]*@/u, "//").replace(/\?.*/u, ""),
    token,
    session,
    reconnect: reconnect === false ? undefined : pausesOf(reconnect === true ? {} : reconnect),
    retry: policyOf(retry, RETRY),
    defaults: { metadata: options.metadata, timeoutMs: options.timeoutMs, interceptors: options.interceptors ?? [] },
    maxQueued,
    maxQueuedBytes,
    ...complete(LIMITS, { connectTimeoutMs, pingIntervalMs, pingTimeoutMs }),
    warn: (message) => {
      safely(() => options.onWarning?.(message));
    },
    WebSocket: options.WebSocket,
    headers: options.headers,
    socketOptions: options.socketOptions,
    platform,
    codec,
  };
}

/** @throws TypeError for what is neither an address nor relative to a page: "localhost:8765/ws". */
function checkUrl(url: string): string {
  if (!/^(?:wss?|https?):\/\//iu.test(url) && !(/^[./]/u.test(url) && "location" in globalThis)) {
    throw new TypeError(`url has to begin with ws:// or wss://, not ${JSON.stringify(url.slice(0, 100))}`);
  }
  return url;
}

/** @throws TypeError unless it is a text; undefined stands for no token. */
export function checkToken(token: string | undefined): string | undefined {
  if (token === "") {
    throw new TypeError("token is empty");
  }
  if (token !== undefined && typeof token !== "string") {
    throw new TypeError(`token has to be a string, not ${typeof token}`);
  }
  return token;
}

/** @throws TypeError if a member makes no sense. */
function pausesOf(policy: ReconnectPolicy): Pauses {
  const { minDelayMs: minMs, maxDelayMs: maxMs } = complete({ minDelayMs: PAUSES.minMs, maxDelayMs: PAUSES.maxMs }, policy);
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
  checkKnown(set, new Set(names));
  return Object.fromEntries(
    names.map((name) => [name, Math.min(checkPositive(name, set[name] ?? preset[name]), MAX_TIMER_MS)]),
  ) as T;
}
