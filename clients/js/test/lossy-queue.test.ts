import assert from "node:assert/strict";
import { test } from "node:test";
import type { Gap, TopicMessage } from "../src/index.js";
import { LossyQueue } from "../src/lossy-queue.js";
import { event, gap, inShort, short } from "./support/messages.js";

async function all(queue: LossyQueue): Promise<TopicMessage[]> {
  queue.fail(new Error("end"));
  const messages: TopicMessage[] = [];
  for (;;) {
    try {
      const { value } = await queue.next();
      messages.push(value as TopicMessage);
    } catch {
      return messages;
    }
  }
}

function filled(max: number, messages: readonly TopicMessage[]): LossyQueue {
  const queue = new LossyQueue(max, "p.>");
  for (const message of messages) {
    queue.push(message);
  }
  return queue;
}

async function given(max: number, messages: readonly TopicMessage[]): Promise<string[]> {
  return inShort(await all(filled(max, messages)));
}

function events(topic: string, ...offsets: number[]): TopicMessage[] {
  return offsets.map((offset) => event(topic, offset));
}

test("as many as fit", async () => {
  assert.deepEqual(await given(3, events("a", 1, 2, 3)), ["a:1", "a:2", "a:3"]);
});

test("of more, the oldest become one gap in front, with its count", async () => {
  const messages = await all(filled(2, events("a", 1, 2, 3, 4, 5)));
  assert.deepEqual(inShort(messages), ["a:1-3 client_slow", "a:4", "a:5"]);
  assert.equal((messages[0] as Gap).count, 3);
});

test("each topic has its own gap", async () => {
  const messages = [...events("a", 1), ...events("b", 7), ...events("a", 2), ...events("b", 8), ...events("a", 3)];
  assert.deepEqual(await given(2, messages), ["a:1-2 client_slow", "b:7-7 client_slow", "b:8", "a:3"]);
});

test("a gap of the hub among what is dropped becomes part of it", async () => {
  const messages = await all(filled(1, [...events("a", 1), gap("a", 2, 4), ...events("a", 5, 6)]));
  assert.deepEqual(inShort(messages), ["a:1-5 client_slow", "a:6"]);
  assert.equal((messages[0] as Gap).count, 5);
});

test("whatever comes last: what is dropped together was the reader's fault", async () => {
  const messages = [...events("a", 1), gap("a", 2, 4), ...events("a", 5)];
  assert.deepEqual(await given(1, messages), ["a:1-4 client_slow", "a:5"]);
});

test("a gap of the hub that is dropped alone stays what it is", async () => {
  assert.deepEqual(await given(1, [gap("a", 2, 4), ...events("a", 5)]), ["a:2-4 slow_consumer", "a:5"]);
});

test("a gap whose count is not known makes the count of the whole unknown", async () => {
  const messages = [{ ...gap("a", 1, 0, "epoch"), count: undefined }, ...events("a", 1, 2)];
  const [first] = await all(filled(1, messages));
  assert.equal((first as Gap).count, undefined);
});

test("across epochs the gap is one of the new epoch, from 1", async () => {
  const messages = [...events("a", 8, 9), event("a", 1, "e2"), event("a", 2, "e2"), event("a", 3, "e2")];
  assert.deepEqual(await given(1, messages), ["e2/a:1-2 client_slow", "e2/a:3"]);
});

test("losses of more topics than fit are one gap of the pattern", async () => {
  const messages = await all(filled(2, ["p.a", "p.b", "p.c", "p.d", "p.a", "p.e", "p.f"].map((t, n) => event(t, n + 1))));
  assert.deepEqual(inShort(messages), ["p.a:1-5 client_slow", "p.b:2-2 client_slow", "/p.>:0-0 client_slow", "p.e:6", "p.f:7"]);
  assert.equal((messages[2] as Gap).count, 2);
});

test("what is lost while a reader takes gaps is announced as well", async () => {
  const queue = filled(1, events("a", 1, 2, 3));
  assert.equal(short((await queue.next()).value as TopicMessage), "a:1-2 client_slow");
  for (const message of events("a", 4, 5)) {
    queue.push(message);
  }
  assert.deepEqual(inShort(await all(queue)), ["a:3-4 client_slow", "a:5"]);
});

test("a reader that waits gets everything", async () => {
  const queue = new LossyQueue(1, "a");
  for (const message of events("a", 1, 2, 3)) {
    const next = queue.next();
    queue.push(message);
    assert.equal((await next).value, message);
  }
});

test("stop drops what waits, and what was lost", async () => {
  const queue = filled(1, events("a", 1, 2, 3));
  queue.stop();
  assert.deepEqual(await queue.next(), { done: true, value: undefined });
});
