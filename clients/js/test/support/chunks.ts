import type { ResultStream } from "../../src/index.js";
import { within } from "./time.js";

/** Reads a stream to its end: the data that came, and what the loop threw. */
export function drain(stream: ResultStream): Promise<{ data: unknown[]; error: unknown }> {
  return within("the stream ends", read(stream));
}

async function read(stream: ResultStream): Promise<{ data: unknown[]; error: unknown }> {
  const data: unknown[] = [];
  try {
    for await (const chunk of stream) {
      data.push(chunk.data);
    }
  } catch (error) {
    return { data, error };
  }
  return { data, error: undefined };
}
