/**
 * The core of sessions by itself, and two of them joined by a wire that is cut again and again.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { Codec, Packed } from "../src/codec.js";
import { JSON_CODEC } from "../src/encode.js";
import { msgpack } from "../src/msgpack.js";
import { Session } from "../src/session.js";
import { dice } from "./support/dice.js";

function seqOf(frame: Packed): number {
  return (JSON_CODEC.parse(frame) as { seq: number }).seq;
}

test("frames are numbered from 1, kept, and given up when they are acknowledged", () => {
  const session = new Session("s", 1_000);
  assert.equal(session.number('{"a":1}'), '{"seq":1,"a":1}');
  assert.equal(session.number('{"b":"{"}'), '{"seq":2,"b":"{"}');
  assert.deepEqual([session.frames, session.units], [2, 32]);
  session.acknowledge(1);
  assert.deepEqual([session.frames, session.units], [1, 17]);
  session.acknowledge(0);
  session.acknowledge(1);
  assert.deepEqual(session.resume(1), ['{"seq":2,"b":"{"}']);
  assert.deepEqual(session.resume(2), []);
  assert.equal(seqOf(session.number('{"c":1}')), 3);
});

for (const [what, act, words] of [
  ["an acknowledgement of what was never sent", (s: Session) => { s.acknowledge(2); }, /frame 2 was acknowledged/u],
  ["an acknowledgement that is no number", (s: Session) => { s.acknowledge(Number.NaN); }, /frame NaN/u],
  ["a resume from what was never sent", (s: Session) => s.resume(2), /frame 2 was acknowledged/u],
  ["a jump", (s: Session) => s.receive(2, 1), /frame 2 came, 1 was due/u],
  ["a number that is none", (s: Session) => s.receive(Number.NaN, 1), /frame NaN came/u],
] as const) {
  test(`${what} is a violation`, () => {
    const session = new Session("s", 1_000);
    session.number('{"a":1}');
    assert.throws(() => { act(session); }, words);
  });
}

test("a hub that forgot what it had acknowledged cannot go on", () => {
  const session = new Session("s", 1_000);
  session.number('{"a":1}');
  session.acknowledge(1);
  assert.throws(() => session.resume(0), /frame 0 was acknowledged after 1/u);
});

test("an acknowledgement is due after 32 frames or 64 KiB, repetitions included", () => {
  const session = new Session("s", 1_000);
  for (let seq = 1; seq <= 31; seq += 1) {
    assert.equal(session.receive(seq, 10), true);
  }
  assert.equal(session.isAckDue, false);
  assert.equal(session.receive(5, 10), false);
  assert.equal(session.isAckDue, true);
  assert.equal(session.takeAck(), 31);
  assert.equal(session.isAckDue, false);
  session.receive(32, 65_536);
  assert.equal(session.isAckDue, true);
  assert.equal(session.takeAck(), 32);
});

/** One side, and what reached it. */
class Side {
  readonly session: Session;
  readonly got: number[] = [];
  sent = 0;

  constructor(codec: Codec) {
    this.session = new Session("s", 1_000, codec);
  }

  frame(): Packed {
    this.sent += 1;
    return this.session.number(this.session.codec.encode({ n: this.sent }));
  }

  take(frame: Packed): void {
    const { seq, n } = this.session.codec.parse(frame) as { seq: number; n: number };
    if (this.session.receive(seq, frame.length)) {
      this.got.push(n);
    }
  }
}

for (const codec of [JSON_CODEC, msgpack]) {
  test(`whatever is cut, each side gets everything once and in order: ${codec.subprotocol}`, () => {
    for (let seed = 0; seed < 500; seed += 1) {
      const roll = dice(seed);
      const sides = [new Side(codec), new Side(codec)] as const;
      /** What is on its way to each side: frames, and numbers for acknowledgements. */
      const wires: [(Packed | number)[], (Packed | number)[]] = [[], []];
      const step = (): void => {
        const to = roll(2) as 0 | 1;
        const from = (1 - to) as 0 | 1;
        const what = roll(10);
        if (what < 4) {
          wires[to].push(sides[from].frame());
        } else if (what < 8) {
          deliver(sides[to], wires[to].splice(0, roll(4)));
        } else if (what < 9) {
          wires[to].push(sides[from].session.takeAck());
        } else {
          wires[0] = [...sides[1].session.resume(sides[0].session.takeAck())];
          wires[1] = [...sides[0].session.resume(sides[1].session.takeAck())];
        }
      };
      for (let n = 0; n < 200; n += 1) {
        step();
      }
      deliver(sides[0], wires[0]);
      deliver(sides[1], wires[1]);
      for (const [here, there] of [[0, 1], [1, 0]] as const) {
        const all = Array.from({ length: sides[there].sent }, (_, n) => n + 1);
        assert.deepEqual(sides[here].got, all, `seed ${seed}`);
      }
    }
  });
}

function deliver(side: Side, items: readonly (Packed | number)[]): void {
  for (const item of items) {
    if (typeof item === "number") {
      side.session.acknowledge(item);
    } else {
      side.take(item);
    }
  }
}
