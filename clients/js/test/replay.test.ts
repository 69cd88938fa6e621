/**
 * Subscriptions of one connection against a model of the hub, in random orders: replies overtake events, replays queue
 * behind events that wait, what is too much is dropped and announced.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { TopicMessage } from "../src/index.js";
import { Sequence } from "../src/sequence.js";
import { dice } from "./support/dice.js";
import { event, gap, short } from "./support/messages.js";

interface Reader {
  readonly start: number;
  readonly sequence: Sequence;
  readonly given: TopicMessage[];
}

/** The hub's queue of events for one connection, and the readers of its one topic. */
class Model {
  head = 0;
  readonly readers: Reader[] = [];
  #lane: number[] = [];
  #dropped: number[] = [];

  publish(): void {
    this.head += 1;
    if (this.readers.length > 0) {
      this.#lane.push(this.head);
    }
  }

  /** The reply is there at once; what the reader asked to hear again waits behind what waits already. */
  subscribe(from: number | undefined): void {
    const given: TopicMessage[] = [];
    const sequence = new Sequence((message) => {
      given.push(message);
    });
    const start = from ?? this.head;
    sequence.start("a", { epoch: "e1", offset: start }, from !== undefined);
    this.readers.push({ start, sequence, given });
    for (let offset = start + 1; offset <= this.head; offset += 1) {
      this.#lane.push(offset);
    }
  }

  drop(n: number): void {
    this.#dropped.push(...this.#lane.splice(0, n));
  }

  write(n: number): void {
    if (this.#dropped.length > 0) {
      this.#deliver(gap("a", Math.min(...this.#dropped), Math.max(...this.#dropped)));
      this.#dropped = [];
    }
    for (const offset of this.#lane.splice(0, n)) {
      this.#deliver(event("a", offset));
    }
  }

  #deliver(message: TopicMessage): void {
    for (const { sequence } of this.readers) {
      sequence.take(message);
    }
  }
}

function play(seed: number, drops: boolean): Model {
  const model = new Model();
  const roll = dice(seed);
  for (let step = 0; step < 60; step += 1) {
    const what = roll(10);
    if (what < 5) {
      model.publish();
    } else if (what < 6) {
      model.subscribe(roll(2) === 0 ? undefined : roll(model.head + 1));
    } else if (what < 9 || !drops) {
      model.write(roll(6));
    } else {
      model.drop(roll(6));
    }
  }
  model.write(Number.MAX_SAFE_INTEGER);
  return model;
}

for (const drops of [false, true]) {
  test(`every reader gets all, once, in order${drops ? ", or a gap" : ""}`, () => {
    for (let seed = 0; seed < 3_000; seed += 1) {
      const { readers, head } = play(seed, drops);
      for (const { start, given } of readers) {
        const story = `seed ${seed}, from ${start}: ${given.map((message) => short(message)).join(" ")}`;
        let at = start;
        for (const message of given) {
          assert.ok(drops || message.kind === "event", story);
          const [from, to] = message.kind === "event" ? [message.offset, message.offset] : [message.from, message.to];
          assert.equal(from, at + 1, story);
          at = to;
        }
        assert.equal(at, head, story);
      }
    }
  });
}
