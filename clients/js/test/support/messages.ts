/**
 * Topic messages in short, and reading them.
 */
import type { Subscription, TopicMessage } from "../../src/index.js";
import { within } from "./time.js";

/** `"a:3"` for an event, `"a:4-7 history"` for a gap; epochs other than `e1` in front: `"e2/a:1"`. */
export function short(message: TopicMessage): string {
  const { topic, epoch } = message;
  const place = epoch === "e1" ? topic : `${epoch}/${topic}`;
  return message.kind === "event"
    ? `${place}:${message.offset}`
    : `${place}:${message.from}-${message.to} ${message.reason}`;
}

export function inShort(messages: readonly TopicMessage[]): string[] {
  return messages.map((message) => short(message));
}

export function event(topic: string, offset: number, epoch = "e1"): TopicMessage {
  return { kind: "event", topic, data: offset, epoch, offset, publishedAt: 0, publisher: undefined, tenant: undefined };
}

export function gap(topic: string, from: number, to: number, reason = "slow_consumer", epoch = "e1"): TopicMessage {
  return { kind: "gap", topic, epoch, from, to, count: to - from + 1, reason };
}

/** The next `n` messages of a subscription, in short; its loop is not left. */
export async function take(subscription: Subscription, n: number): Promise<string[]> {
  const iterator = subscription[Symbol.asyncIterator]();
  const messages: string[] = [];
  while (messages.length < n) {
    const result = await within(`message ${messages.length} of ${n}`, iterator.next());
    if (result.done === true) {
      throw new Error(`the subscription ended after ${messages.join(", ")}`);
    }
    messages.push(short(result.value));
  }
  return messages;
}

/** Reads a subscription to its end: what it gave, and what the loop threw. */
export async function drain(subscription: Subscription): Promise<{ messages: string[]; error: unknown }> {
  const messages: string[] = [];
  const read = async (): Promise<unknown> => {
    try {
      for await (const message of subscription) {
        messages.push(short(message));
      }
    } catch (error) {
      return error;
    }
    return undefined;
  };
  const error = await within("the subscription ends", read());
  return { messages, error };
}
