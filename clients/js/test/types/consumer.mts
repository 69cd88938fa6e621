/** Type checks as an ESM user sees the built package, without the types of Node. */
import {
  connect,
  isHubError,
  type Gap,
  type Hub,
  type Position,
  type Registration,
  type ResultStream,
  type ServedCall,
  type Subscription,
  type WebSocketConstructor,
} from "trunkline";
import * as otel from "@opentelemetry/api";
import { msgpack } from "trunkline/msgpack";
import { traced, tracedHandler } from "trunkline/opentelemetry";
import { checked, type StandardSchema } from "trunkline/schema";
import { createTaskClient, TaskError, type TaskClient } from "trunkline/tasks";

interface Tasks {
  readonly "speech/analyze": { readonly params: { text: string }; readonly result: { words: number } };
}

export async function tasks(): Promise<number> {
  const client: TaskClient<Tasks> = createTaskClient<Tasks>({ baseUrl: "http://127.0.0.1:8765", retry: { maxRetries: 1 } });
  // @ts-expect-error -- a param of another type
  await client.analyzeSpeech({ text: 1 });
  // @ts-expect-error -- no such path
  await client.run("speech/analyse", { text: "a" });
  // @ts-expect-error -- a path that is not among the tasks
  await client.runInference({ text: "a" });
  const anything: unknown = await createTaskClient({ baseUrl: "http://a" }).runInference({ any: 1 });
  if (anything instanceof TaskError && anything.name === "TaskTimeoutError") {
    return anything.attempts;
  }
  return (await client.analyzeSpeech({ text: "a" }, { timeoutMs: 1, idempotencyKey: "k" })).words;
}

export const platform: WebSocketConstructor = WebSocket;

export async function trace(): Promise<void> {
  await using hub: Hub = await connect("ws://127.0.0.1:8765/ws", { interceptors: [traced(otel)] });
  await hub.register("m", tracedHandler(otel, "m", ({ n }: { n: number }) => n));
}

export async function use(token: string | undefined): Promise<number> {
  await using hub: Hub = await connect("ws://127.0.0.1:8765/ws", { token, WebSocket: platform, codec: msgpack });
  interface Params {
    readonly value: number;
  }
  const params: Params = { value: 1 };
  const stream: ResultStream<string, { total: number }> = hub.stream("m", params, { timeoutMs: 1 });
  for await (const { data } of stream) {
    data.toUpperCase();
  }
  // @ts-expect-error -- params are named or positional, never a scalar
  hub.notify("m", "text");
  const result = await hub.call("m");
  // @ts-expect-error -- a result is unknown until its type is given
  const count: number = result;
  return (await stream.result).total + count + (await hub.call<number>("m"));
}

export async function follow(hub: Hub, last: Position | undefined): Promise<Position | undefined> {
  const missed: Gap[] = [];
  await using jobs: Subscription<{ done: number }> = await hub.subscribe("jobs.42", { recover: last });
  for await (const message of jobs) {
    if (message.kind === "gap") {
      missed.push(message);
      break;
    }
    // @ts-expect-error -- an event has no reason
    void message.reason;
    const next: Position = await hub.publish("jobs.done", message.data.done, { idempotencyKey: message.epoch });
    await hub.subscribe("jobs.done", { recover: next, onGap: (gap) => missed.push(gap) });
  }
  return jobs.position;
}

export async function serve(hub: Hub): Promise<number> {
  const leave: () => void = hub.onConnectionState((state) => {
    if (state.state === "reconnecting") {
      state.cause.reason.toUpperCase();
    } else {
      // @ts-expect-error -- only a reconnect has a delay
      void state.delayMs;
    }
  });
  await using registration: Registration = await hub.register(
    "node.upper",
    async function* upper({ text }: { text: string }, { signal, progress }: ServedCall) {
      progress(signal.aborted);
      yield text.toUpperCase();
    },
    { streaming: true },
  );
  leave();
  const sum = await hub.call<number>(registration.method, {}, { input: [1, 2], retry: { attempts: 2 }, idempotent: true });
  // @ts-expect-error -- a window is for streams
  await hub.call("m", {}, { window: { items: 1 } });
  hub.stream("m", {}, { window: { items: 1 } });
  return sum;
}

export async function serveChecked(
  hub: Hub,
  text: StandardSchema<{ text?: string }, { text: string }>,
  count: StandardSchema<{ words: string }, { words: number }>,
): Promise<void> {
  const contract = { params: text, result: count };
  await hub.register("node.count", checked(contract, ({ text: given }) => ({ words: given.toUpperCase() })), { idempotent: true });
  // @ts-expect-error -- the schema makes no such member
  checked(contract, ({ words }) => ({ words: String(words) }));
  // @ts-expect-error -- not what the schema of the result takes
  checked(contract, () => ({ words: 1 }));
  const chunks = checked(contract, async function* lines({ text: given }, { signal }) {
    yield signal.aborted;
    return { words: given };
  });
  // @ts-expect-error -- a generator returns the result, too
  checked(contract, async function* lines() {
    yield 1;
    return { words: 1 };
  });
  await hub.register("node.chunks", chunks, { streaming: true });
  const free: unknown = checked({ result: count }, (params: unknown) => ({ words: String(params) }));
  // @ts-expect-error -- params without a schema are unknown
  checked({ result: count }, ({ text: given }) => ({ words: String(given) }));
  // @ts-expect-error -- a schema of a library is no JSON Schema
  await hub.register("node.plain", () => free, { paramsSchema: "text" });
}

export function wait(error: unknown): number | undefined {
  return isHubError(error) && error.kind === "overloaded" ? error.retryAfterMs : undefined;
}
