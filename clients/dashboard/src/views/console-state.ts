/**
 * The console: what is about to be called, what was, and how it went. It outlives a look at another view.
 */
import { computed, signal } from "@preact/signals";
import { isHubError, RpcError, type Hub } from "trunkline";
import { paramsOf, typedOf, type Typed } from "../core/form.ts";
import { jsonOf } from "../core/json.ts";
import { fieldsOf, type Fields } from "../core/reports.ts";
import { NO_CHUNKS, withChunks, type ChunkTime, type Waterfall } from "../core/waterfall.ts";
import { catalogue } from "../hub/feeds.ts";
import { hub } from "../hub/link.ts";

export interface Run {
  readonly method: string;
  readonly params: Fields;
  readonly streamed: boolean;
  readonly startedAt: number;
  readonly tookMs: number | undefined;
  readonly waterfall: Waterfall;
  readonly progress: unknown;
  readonly outcome:
    | { readonly kind: "running" }
    | { readonly kind: "result"; readonly value: unknown }
    | { readonly kind: "error"; readonly name: string; readonly message: string; readonly details: Fields };
}

export const chosen = signal<string | undefined>(undefined);
export const typed = signal<Typed>({});
export const streamed = signal(false);
export const timeoutMs = signal("");
export const asked = signal(false);
export const run = signal<Run | undefined>(undefined);

export const method = computed(() => catalogue.value.find(({ name }) => name === chosen.value));
export const form = computed(() => paramsOf(method.value?.params ?? [], typed.value));

const DRAW_MS = 100;
const PREVIEW = 120;
let aborter: AbortController | undefined;

export function choose(name: string): void {
  chosen.value = name;
  typed.value = {};
  asked.value = false;
  streamed.value = method.value?.streaming ?? false;
}

/**
 * Brings a call to the console, with its params where they are known; people press the button themselves.
 *
 * @returns the params that the form has no place for.
 */
export function tryAgain(name: string, params: unknown): readonly string[] {
  choose(name);
  const places = method.value?.params ?? [];
  typed.value = typedOf(places, params);
  location.hash = "#/console";
  return Object.keys(fieldsOf(params)).filter((key) => !places.some((place) => place.name === key));
}

export function cancelRun(): void {
  aborter?.abort();
}

/** Runs what the form says; does nothing while something in it is wrong. */
export async function start(): Promise<void> {
  asked.value = true;
  const connection = hub.peek();
  const name = chosen.peek();
  const { params, wrong } = form.peek();
  if (connection === undefined || name === undefined || Object.keys(wrong).length > 0) {
    return;
  }
  aborter?.abort();
  const mine = new AbortController();
  aborter = mine;
  const begun = performance.now();
  const change = (part: Partial<Run>): void => {
    const before = run.peek();
    if (aborter === mine && before !== undefined) {
      run.value = { ...before, ...part };
    }
  };
  const blank = { tookMs: undefined, waterfall: NO_CHUNKS, progress: undefined, outcome: { kind: "running" } } as const;
  run.value = { ...blank, method: name, params, streamed: streamed.peek(), startedAt: Date.now() };
  try {
    const value = await outcomeOf(connection, name, params, mine.signal, begun, change);
    change({ tookMs: performance.now() - begun, outcome: { kind: "result", value } });
  } catch (error) {
    change({ tookMs: performance.now() - begun, outcome: errorOf(error) });
  }
}

type Change = (part: Partial<Run>) => void;

async function outcomeOf(connection: Hub, name: string, params: Fields, stop: AbortSignal, begun: number, change: Change): Promise<unknown> {
  const limit = Number(timeoutMs.peek());
  const options = {
    signal: stop,
    timeoutMs: limit > 0 ? limit : undefined,
    retry: false as const,
    onProgress: (progress: unknown) => {
      change({ progress });
    },
  };
  if (!streamed.peek()) {
    return connection.call(name, params, options);
  }
  const stream = connection.stream(name, params, options);
  const flow = new ChunkFlow(change);
  try {
    for await (const { type, data, index } of stream) {
      const text = jsonOf(data);
      flow.add({ index, type, at: performance.now() - begun, size: text.length, preview: text.slice(0, PREVIEW) });
    }
  } finally {
    flow.draw();
  }
  return stream.result;
}

/** Chunks may come faster than anybody can look: they are drawn a few times a second. */
class ChunkFlow {
  readonly #change: Change;
  #waiting: ChunkTime[] = [];
  #waterfall: Waterfall = NO_CHUNKS;
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(change: Change) {
    this.#change = change;
  }

  add(chunk: ChunkTime): void {
    this.#waiting.push(chunk);
    this.#timer ??= setTimeout(() => {
      this.draw();
    }, DRAW_MS);
  }

  draw(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#waterfall = withChunks(this.#waterfall, this.#waiting);
    this.#waiting = [];
    this.#change({ waterfall: this.#waterfall });
  }
}

function errorOf(error: unknown): Run["outcome"] {
  if (!isHubError(error)) {
    return { kind: "error", name: error instanceof Error ? error.name : "Error", message: String(error), details: {} };
  }
  const details: Record<string, unknown> = { maybe_executed: error.maybeExecuted };
  if (error instanceof RpcError) {
    details.code = error.code;
    details.data = error.data;
  }
  const name = error instanceof RpcError ? `${error.errorName} ${error.code}` : error.name;
  return { kind: "error", name, message: error.message, details };
}
