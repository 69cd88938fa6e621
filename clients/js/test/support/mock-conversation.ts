/**
 * A bare connection to a mock hub, and the methods of the packs `debug` and `lab` that conformance cases call.
 */
import { setTimeout as pause } from "node:timers/promises";
import { RpcError } from "../../src/index.js";
import { AsyncQueue } from "../../src/queue.js";
import type { MockHub } from "../../src/testing/index.js";
import type { Conversation } from "./conformance.js";
import type { Send } from "./raw.js";
import { within } from "./time.js";

export async function converse(mock: MockHub): Promise<Conversation> {
  const socket = new mock.WebSocket(mock.url, []);
  const received = new AsyncQueue<unknown>();
  const closed = new Promise<number>((resolve) => {
    socket.addEventListener("close", ({ code }) => {
      received.end();
      resolve(code);
    });
  });
  socket.addEventListener("message", ({ data }) => {
    received.push(JSON.parse(String(data)));
  });
  await within("a connection", new Promise<unknown>((resolve) => {
    socket.addEventListener("open", resolve);
  }));
  return {
    send: (item) => {
      socket.send(textOf(item));
    },
    say: (message) => {
      socket.send(JSON.stringify(message));
    },
    next: async () => {
      const { value, done } = await within("a message of the mock hub", received.next());
      if (done === true) {
        throw new Error(`closed (${await closed}) instead of one more message`);
      }
      return value;
    },
    closeCode: () => within("the mock hub closes the connection", closed),
    terminate: () => {
      socket.close();
    },
  };
}

function textOf(item: Send): string {
  if ("generate" in item) {
    const { prefix, unit, count, suffix } = item.generate;
    return prefix + unit.repeat(count) + suffix;
  }
  if ("fragments" in item) {
    return item.fragments.join("");
  }
  if (!("text" in item)) {
    throw new Error(`a mock hub's socket has text messages only: ${JSON.stringify(item)}`);
  }
  return item.text;
}

/** Serves what conformance cases call, as far as JavaScript has it. */
export function serveDebug(mock: MockHub): MockHub {
  return mock
    .method<{ value?: unknown }>("debug.echo", (params) => (Array.isArray(params) ? params[0] : params.value))
    .method<{ seconds: number }>("debug.sleep", async ({ seconds }, { signal }) => {
      // What a case leaves running keeps no process.
      await pause(seconds * 1_000, undefined, { signal, ref: false });
      return { slept: seconds };
    })
    .method<{ n: number; interval_ms?: number; fail_at?: number }>("debug.count", counted)
    .method("debug.fail", () => {
      throw new RuntimeError("failed as asked");
    })
    .method("debug.crash", () => undefined)
    .method("lab.echo_input", async function* echo(_params, { input }) {
      yield* input;
    })
    .method<{ start?: number }>("lab.sum", async ({ start = 0 }, { input }) => {
      let sum = start;
      for await (const item of input) {
        sum += item as number;
      }
      return sum;
    });
}

/** What Python calls so. */
class RuntimeError extends Error {
  override readonly name = "RuntimeError";
}

async function* counted(
  { n, interval_ms: interval = 0, fail_at: failAt }: { n: number; interval_ms?: number; fail_at?: number },
): AsyncGenerator {
  for (let index = 0; index < n; index += 1) {
    if (index === failAt) {
      throw new RpcError({ code: 3003, message: `debug.count was told to fail at chunk ${index}` });
    }
    yield { index };
    await pause(interval, undefined, { ref: false });
  }
}
