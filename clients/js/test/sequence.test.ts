import assert from "node:assert/strict";
import { test } from "node:test";
import type { TopicMessage } from "../src/index.js";
import { Sequence } from "../src/sequence.js";
import { event, gap, short } from "./support/messages.js";

/** What a subscription gives that began at `offset` of topic a. */
function after(offset: number, replaying: boolean, messages: readonly TopicMessage[]): string[] {
  const given: string[] = [];
  const sequence = new Sequence((message) => {
    given.push(short(message));
  });
  sequence.start("a", { epoch: "e1", offset }, replaying);
  for (const message of messages) {
    sequence.take(message);
  }
  return given;
}

/** What a pattern gives. */
function anywhere(messages: readonly TopicMessage[]): string[] {
  const given: string[] = [];
  const sequence = new Sequence((message) => {
    given.push(short(message));
  });
  for (const message of messages) {
    sequence.take(message);
  }
  return given;
}

function events(...offsets: number[]): TopicMessage[] {
  return offsets.map((offset) => event("a", offset));
}

test("events after the position, each once", () => {
  assert.deepEqual(after(3, false, events(2, 3, 4, 5, 4, 5, 6)), ["a:4", "a:5", "a:6"]);
});

test("a hole nobody announced is announced here", () => {
  const missed = after(3, false, events(4, 7, 8));
  assert.deepEqual(missed, ["a:4", "a:5-6 missing", "a:7", "a:8"]);
});

test("gaps move the position, events they cover do not come after them", () => {
  const given = after(3, false, [gap("a", 4, 6), ...events(5, 6, 7)]);
  assert.deepEqual(given, ["a:4-6 slow_consumer", "a:7"]);
});

test("of a gap only the part that is new is given", () => {
  const given = after(5, false, [gap("a", 3, 5), gap("a", 4, 8), ...events(9)]);
  assert.deepEqual(given, ["a:6-8 slow_consumer", "a:9"]);
});

test("a gap behind a hole: both are announced", () => {
  assert.deepEqual(after(3, false, [gap("a", 6, 8)]), ["a:4-5 missing", "a:6-8 slow_consumer"]);
});

test("gaps that answer another subscription's recover are not for this one", () => {
  const answers = [gap("a", 2, 9, "history"), gap("a", 1, 9, "epoch")];
  assert.deepEqual(after(5, false, [...answers, ...events(6)]), ["a:6"]);
  assert.deepEqual(anywhere([...answers, ...events(6)]), ["a:6"]);
});

test("a gap for a reason this client does not know counts", () => {
  assert.deepEqual(after(3, false, [gap("a", 4, 5, "conflated"), ...events(6)]), ["a:4-5 conflated", "a:6"]);
});

test("a replay: all of it, in order", () => {
  assert.deepEqual(after(2, true, events(3, 4, 5, 6)), ["a:3", "a:4", "a:5", "a:6"]);
});

test("events that were on their way before the replay wait for it", () => {
  const whole = ["a:3", "a:4", "a:5", "a:6", "a:7"];
  assert.deepEqual(after(2, true, events(5, 6, 3, 4, 5, 6, 7)), whole, "the replay brings them again");
  assert.deepEqual(after(2, true, events(5, 6, 3, 4, 7)), whole, "the replay leaves them out");
});

test("a gap that was on its way before the replay waits for it", () => {
  const messages = [gap("a", 5, 6), ...events(3, 4, 5, 6, 7)];
  assert.deepEqual(after(2, true, messages), ["a:3", "a:4", "a:5-6 slow_consumer", "a:7"]);
});

test("once the replay has begun a hole is a hole", () => {
  assert.deepEqual(after(2, true, events(3, 6)), ["a:3", "a:4-5 missing", "a:6"]);
});

test("a replay that never comes is announced as missing when too much waits for it", () => {
  const offsets = Array.from({ length: 1_025 }, (_, n) => n + 10);
  assert.deepEqual(after(2, true, events(...offsets.slice(0, -1))), []);
  const given = after(2, true, events(...offsets));
  assert.equal(given.length, 1_026);
  assert.deepEqual(given.slice(0, 2), ["a:3-9 missing", "a:10"]);
});

test("a new epoch counts from 1", () => {
  assert.deepEqual(after(3, false, [event("a", 1, "e2"), event("a", 2, "e2")]), ["e2/a:1", "e2/a:2"]);
  const late = after(3, false, [event("a", 4, "e2"), event("a", 4, "e2"), event("a", 5, "e2")]);
  assert.deepEqual(late, ["e2/a:1-3 epoch", "e2/a:4", "e2/a:5"]);
});

test("a new epoch may be announced before anything is published in it", () => {
  const given = after(3, false, [gap("a", 1, 0, "epoch", "e2"), event("a", 1, "e2")]);
  assert.deepEqual(given, ["e2/a:1-0 epoch", "e2/a:1"]);
});

test("a pattern begins wherever it hears of a topic, and knows each topic's position", () => {
  const messages = [event("a", 5), event("b", 1), gap("c", 3, 4), event("a", 5), event("b", 3), event("c", 4), event("a", 6)];
  assert.deepEqual(anywhere(messages), ["a:5", "b:1", "c:3-4 slow_consumer", "b:2-2 missing", "b:3", "a:6"]);
});

test("a pattern remembers a bounded number of topics: those that spoke last", () => {
  const given: string[] = [];
  const sequence = new Sequence((message) => {
    given.push(short(message));
  });
  sequence.take(event("often", 1));
  sequence.take(event("once", 1));
  for (let n = 0; n < 9_999; n += 1) {
    sequence.take(event(`t${n}`, 1));
    if (n === 5_000) {
      sequence.take(event("often", 2));
    }
  }
  given.length = 0;
  for (const topic of ["often", "t9998", "once"]) {
    sequence.take(event(topic, 1));
  }
  assert.deepEqual(given, ["once:1"], "only what was forgotten comes again");
});
