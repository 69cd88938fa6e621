/** Type checks as an ESM user sees the built package, without the types of Node. */
import { connect, isHubError, type Hub, type ResultStream, type WebSocketConstructor } from "trunkline";

export const platform: WebSocketConstructor = WebSocket;

export async function use(token: string | undefined): Promise<number> {
  await using hub: Hub = await connect("ws://127.0.0.1:8765/ws", { token, WebSocket: platform });
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

export function wait(error: unknown): number | undefined {
  return isHubError(error) && error.kind === "overloaded" ? error.retryAfterMs : undefined;
}
