/**
 * Tasks over HTTP: methods of a hub as `POST /api/v1/<path>`, with a deadline, a key and retries. Needs `fetch` only.
 *
 * @packageDocumentation
 */
import { encode } from "../encode.js";
import { checkKnown } from "../known.js";
import { failureOf, parsed, taskError, CANCELLED, TIMEOUT, UNAVAILABLE, type TaskError, type TaskErrorInit } from "./task-error.js";

export { TaskCancelledError, TaskError, TaskTimeoutError, TaskUnavailableError } from "./task-error.js";

/** When tasks are tried again: after `retryDelayMs * backoffMultiplier ** n`, or when the hub says, if that is later. */
export interface TaskRetry {
  /** How often beside the first time. Default 3. */
  readonly maxRetries?: number | undefined;
  /** Default 1000. */
  readonly retryDelayMs?: number | undefined;
  /** Default 2. */
  readonly backoffMultiplier?: number | undefined;
}

/** Options of {@link createTaskClient}. */
export interface TaskClientOptions {
  /** Where the hub is: `http://127.0.0.1:8765`, with a prefix where a proxy has it at one. */
  readonly baseUrl: string | URL;
  /** How long a task may take, its retries included, in milliseconds. Default 30000. */
  readonly timeoutMs?: number | undefined;
  /** Default `{maxRetries: 3, retryDelayMs: 1000, backoffMultiplier: 2}`. */
  readonly retry?: TaskRetry | undefined;
  /** Bearer token; a function is asked for each attempt. */
  readonly token?: string | (() => string | Promise<string>) | undefined;
  /** Further headers of every request. */
  readonly headers?: Readonly<Record<string, string>> | undefined;
  /** Used in place of the platform's. */
  readonly fetch?: typeof fetch | undefined;
}

/** Options of one task. */
export interface TaskOptions {
  readonly timeoutMs?: number | undefined;
  readonly retry?: TaskRetry | undefined;
  readonly signal?: AbortSignal | undefined;
  /** Under which the hub runs it once, however often it is asked. Default: one that is made up for the task. */
  readonly idempotencyKey?: string | undefined;
  /** Running it twice does no harm: it is tried again even where the hub that knew its key may be gone. */
  readonly idempotent?: boolean | undefined;
  readonly priority?: "low" | "normal" | "high" | undefined;
}

/** Path to what goes in and comes out: `{ "speech/analyze": { params: ...; result: ... } }`. */
export type TaskMap<Paths extends string = string> = { readonly [P in Paths]: { readonly params: object; readonly result: unknown } };

/** What `healthCheck` gives, and more: see `health.check` in SPEC.md. */
export interface TaskHealth {
  readonly status: "healthy" | "degraded" | "unhealthy" | "starting" | "stopping";
  readonly ready: boolean;
  readonly [member: string]: unknown;
}

/** Any path, any params: where nothing is said of the hub's tasks. */
export type AnyTasks = TaskMap;

type Of<T, P, K extends "params" | "result"> = P extends keyof T ? (T[P] extends Record<K, infer V> ? V : never) : never;

/**
 * Runs tasks of a hub. All reject with a {@link TaskError}; with a TypeError, and nothing is sent, for an option that is none, or
 * params that JSON would change, by their path (`params.items.2.x is NaN`). Bytes are `Uint8Array`, in params and results.
 */
export interface TaskClient<T extends TaskMap<keyof T & string> = AnyTasks> {
  /** The health of the hub's process. */
  healthCheck(options?: Pick<TaskOptions, "timeoutMs" | "retry" | "signal">): Promise<TaskHealth>;
  /** The method at `/api/v1/speech/analyze`. */
  analyzeSpeech(params: Of<T, "speech/analyze", "params">, options?: TaskOptions): Promise<Of<T, "speech/analyze", "result">>;
  /** The method at `/api/v1/ml/inference`. */
  runInference(params: Of<T, "ml/inference", "params">, options?: TaskOptions): Promise<Of<T, "ml/inference", "result">>;
  /** The method at `/api/v1/<path>`. */
  run<P extends keyof T & string>(path: P, params: Of<T, P, "params">, options?: TaskOptions): Promise<Of<T, P, "result">>;
}

/** How much later than the hub the client gives up, so that it is the hub's word that is heard. */
const GRACE_MS = 1_000;

const WORKER_OVERLOADED = 2002;

const CLIENT = new Set("baseUrl timeoutMs retry token headers fetch".split(" "));
const TASK = new Set("timeoutMs retry signal idempotencyKey idempotent priority".split(" "));
const HEALTH = new Set("timeoutMs retry signal".split(" "));
const RETRY = new Set("maxRetries retryDelayMs backoffMultiplier".split(" "));

interface Sent {
  readonly url: string;
  readonly method: "GET" | "POST";
  readonly headers: Readonly<Record<string, string>>;
  readonly body?: string;
  /** Whether it may run twice, or the hub sees to it that it does not. */
  readonly hasKey: boolean;
  readonly isIdempotent: boolean;
}

/**
 * A client for the tasks of a hub.
 *
 * What failed is tried again where the error may pass and nothing ran, or where the hub knows the task by its key: so an
 * answer that is lost costs no second run. A hub that was restarted remembers no keys: once an answer was lost, an
 * attempt that finds nobody, or a hub that starts or stops, is the last, unless the task is `idempotent`.
 *
 * @throws TypeError if an option makes no sense, or is none.
 */
export function createTaskClient<T extends TaskMap<keyof T & string> = AnyTasks>(options: TaskClientOptions): TaskClient<T> {
  checkKnown(options, CLIENT);
  const base = new URL(options.baseUrl);
  if (base.protocol !== "http:" && base.protocol !== "https:") {
    throw new TypeError(`baseUrl ${base.href} is no http: or https: address`);
  }
  const root = base.href.replace(/\/*$/u, "/");
  policy(options.retry);
  above("timeoutMs", options.timeoutMs ?? 30_000);

  function run(path: string, params: object, given: TaskOptions = {}): Promise<unknown> {
    return attempts(options, given, () => taskOf(`${root}api/v1/${path.replace(/^\/+/u, "")}`, params, given));
  }

  const client = {
    run,
    analyzeSpeech: (params: object, given?: TaskOptions) => run("speech/analyze", params, given),
    runInference: (params: object, given?: TaskOptions) => run("ml/inference", params, given),
    healthCheck: (given: TaskOptions = {}) => attempts(options, given, () => healthOf(`${root}health`, given)),
  };
  return client as TaskClient<T>;
}

function healthOf(url: string, given: TaskOptions): Sent {
  checkKnown(given, HEALTH);
  return { url, method: "GET", headers: {}, hasKey: false, isIdempotent: true };
}

function taskOf(url: string, params: object, given: TaskOptions): Sent {
  checkKnown(given, TASK);
  const headers: Record<string, string> = {
    "Content-Type": "application/json",
    "Idempotency-Key": given.idempotencyKey ?? crypto.randomUUID(),
    ...(given.priority === undefined ? {} : { "X-Priority": given.priority }),
  };
  // Encoded as a member: paths in errors begin with `params`, as they do in calls.
  const body = encode({ params }).slice('{"params":'.length, -1);
  return { url, method: "POST", headers, body, hasKey: true, isIdempotent: given.idempotent === true };
}

/** Sends what `make` gives until it is answered, or may not be sent again; rejects with what `make` throws. */
async function attempts(options: TaskClientOptions, given: TaskOptions, make: () => Sent): Promise<unknown> {
  const sent = make();
  const { maxRetries, retryDelayMs, backoffMultiplier } = policy({ ...options.retry, ...defined(given.retry) });
  const timeoutMs = above("timeoutMs", given.timeoutMs ?? options.timeoutMs ?? 30_000);
  const deadline = Date.now() + timeoutMs;
  let wasLost = false;
  for (let attempt = 1; ; attempt += 1) {
    // oxlint-disable-next-line no-await-in-loop -- one attempt after the other
    const outcome = await once(options, given.signal, sent, deadline - Date.now(), attempt);
    if ("result" in outcome) {
      return outcome.result;
    }
    const { failure, isLost, isOtherHub } = outcome;
    const error = taskError(wasLost ? { ...failure, maybeExecuted: true } : failure, attempt);
    const isSafe = sent.isIdempotent || !error.maybeExecuted || (sent.hasKey && !(wasLost && isOtherHub));
    const delayMs = Math.max(retryDelayMs * backoffMultiplier ** (attempt - 1), failure.retryAfterMs ?? 0);
    const isOver = Date.now() + delayMs >= deadline;
    if (attempt > maxRetries || !failure.retryable || !isSafe || isOver) {
      throw error;
    }
    wasLost ||= isLost;
    // oxlint-disable-next-line no-await-in-loop
    if (!(await paused(delayMs, given.signal))) {
      throw cancelled(given.signal, wasLost, attempt);
    }
  }
}

type Outcome =
  | { readonly result: unknown }
  | {
      readonly failure: TaskErrorInit;
      /** The request was sent, and what became of it was not heard. */
      readonly isLost: boolean;
      /** Whoever answered, or did not, need not be the hub that was asked before. */
      readonly isOtherHub: boolean;
    };

/** Sends it once, and says what came of it. */
async function once(options: TaskClientOptions, signal: AbortSignal | undefined, sent: Sent, leftMs: number, attempt: number): Promise<Outcome> {
  const token = typeof options.token === "function" ? await options.token() : options.token;
  if (isAborted(signal)) {
    throw cancelled(signal, false, attempt);
  }
  const abort = new AbortController();
  const give = (): void => {
    abort.abort(signal?.reason);
  };
  const late = new Error("no answer in time");
  const timer = setTimeout(() => {
    abort.abort(late);
  }, leftMs + GRACE_MS);
  signal?.addEventListener("abort", give);
  try {
    return await answered(options, sent, requestOf(options, sent, token, leftMs, abort.signal));
  } catch (error) {
    if (isAborted(signal)) {
      throw cancelled(signal, true, attempt);
    }
    return unanswered(`${sent.method} ${sent.url}`, error, abort.signal.aborted);
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener("abort", give);
  }
}

function requestOf(options: TaskClientOptions, sent: Sent, token: string | undefined, leftMs: number, signal: AbortSignal): RequestInit {
  const headers = {
    ...options.headers,
    ...(token === undefined ? {} : { Authorization: `Bearer ${token}` }),
    ...sent.headers,
    ...(sent.method === "POST" ? { "X-Timeout-Ms": String(Math.max(1, Math.round(leftMs))) } : {}),
  };
  return { method: sent.method, headers, signal, ...(sent.body === undefined ? {} : { body: sent.body }) };
}

async function answered(options: TaskClientOptions, { url }: Sent, init: RequestInit): Promise<Outcome> {
  const response = await (options.fetch ?? fetch)(url, init);
  const text = await response.text();
  const result = response.ok ? parsed(text) : undefined;
  if (result !== undefined) {
    return { result };
  }
  const failure = failureOf(response, text);
  return { failure, isLost: false, isOtherHub: failure.status === UNAVAILABLE && failure.code !== WORKER_OVERLOADED };
}

/** What it means that no answer came. */
function unanswered(at: string, cause: unknown, isLate: boolean): Outcome {
  if (isLate) {
    const failure = { status: TIMEOUT, message: `${at}: no answer in time`, maybeExecuted: true, retryable: false, cause };
    return { failure, isLost: true, isOtherHub: false };
  }
  const why = whyUnsent(cause);
  const maybeExecuted = why === undefined;
  const message = `${at}: ${maybeExecuted ? "the answer was lost" : `no connection, nothing was sent: ${why}`}`;
  const failure = { status: UNAVAILABLE, message, maybeExecuted, retryable: why !== BAD_PORT, cause };
  return { failure, isLost: maybeExecuted, isOtherHub: !maybeExecuted };
}

const UNSENT = new Set(["ECONNREFUSED", "ENOTFOUND", "EAI_AGAIN", "UND_ERR_CONNECT_TIMEOUT", "ConnectionRefused"]);

/** What Node says of the ports that no `fetch` asks, 1 among them. It has no code, and does not pass. */
const BAD_PORT = "bad port";

/** Why nothing was sent, as far as the platform tells, which browsers do not; undefined where something may have been. */
function whyUnsent(error: unknown): string | undefined {
  // By members: the platform's errors may be of another realm, as in jest.
  const { code, syscall, message, errors, cause } = (error ?? {}) as Readonly<Record<string, unknown>>;
  if (Array.isArray(errors)) {
    // Of an attempt for each address of a name: one that was not refused may have been heard.
    const reasons = errors.map((each) => whyUnsent(each));
    return reasons.includes(undefined) ? undefined : reasons[0];
  }
  if (typeof code === "string" && (UNSENT.has(code) || syscall === "connect")) {
    return code;
  }
  return message === BAD_PORT ? BAD_PORT : cause === undefined || cause === error ? undefined : whyUnsent(cause);
}

function isAborted(signal: AbortSignal | undefined): boolean {
  return signal?.aborted === true;
}

function cancelled(signal: AbortSignal | undefined, maybeExecuted: boolean, attempt: number): TaskError {
  const cause: unknown = signal?.reason;
  return taskError({ status: CANCELLED, message: "the task was cancelled", maybeExecuted, retryable: false, cause }, attempt);
}

/** Waits; gives false at once where the signal is aborted. */
function paused(ms: number, signal: AbortSignal | undefined): Promise<boolean> {
  return new Promise((resolve) => {
    const end = (): void => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", end);
      resolve(!isAborted(signal));
    };
    const timer = setTimeout(end, ms);
    signal?.addEventListener("abort", end);
    if (isAborted(signal)) {
      end();
    }
  });
}

function policy(retry: TaskRetry = {}): { maxRetries: number; retryDelayMs: number; backoffMultiplier: number } {
  checkKnown(retry, RETRY);
  return {
    maxRetries: above("retry.maxRetries", retry.maxRetries ?? 3, 0),
    retryDelayMs: above("retry.retryDelayMs", retry.retryDelayMs ?? 1_000, 0),
    backoffMultiplier: above("retry.backoffMultiplier", retry.backoffMultiplier ?? 2, 1),
  };
}

function defined(retry: TaskRetry = {}): TaskRetry {
  return Object.fromEntries(Object.entries(retry).filter(([, value]) => value !== undefined));
}

function above(name: string, value: number, least = 1): number {
  if (!(Number.isFinite(value) && value >= least)) {
    throw new TypeError(`${name} has to be a number from ${least} on, not ${value}`);
  }
  return value;
}
