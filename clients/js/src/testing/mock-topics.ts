/**
 * The topics of a mock hub: offsets, history and subscribers.
 */
import type { Position } from "../index.js";
import { matches } from "../topics.js";

/** An event as it is kept. */
export interface Kept {
  readonly topic: string;
  readonly data: unknown;
  readonly epoch: string;
  readonly offset: number;
  readonly published_at: number;
  readonly publisher: string;
}

/** Where a subscription begins, and what it is sent first. */
export interface Joined {
  readonly reply: object;
  readonly missed: readonly Kept[];
  readonly gap: object | undefined;
}

/** Where a subscriber to a pattern was: a place among all publications, and what it had of topics since. */
export interface PatternPosition extends Position {
  readonly topics?: Readonly<Record<string, Position>>;
}

export class MockTopics {
  #runs = 0;
  #published = 0;
  readonly #topics = new Map<string, Kept[]>();
  /** Which of all publications of this run an event is. */
  readonly #numbers = new WeakMap<Kept, number>();

  /** Another one after each start of the hub. */
  get run(): string {
    return `mock-${this.#runs}`;
  }

  /** A hub that is started again remembers none. */
  forget(): void {
    this.#runs += 1;
    this.#published = 0;
    this.#topics.clear();
  }

  publish(topic: string, data: unknown, publisher: string): Kept {
    const kept = this.#kept(topic);
    const event = { topic, data, epoch: this.#epoch, offset: kept.length + 1, published_at: Date.now(), publisher };
    this.#topics.set(topic, [...kept, event]);
    this.#published += 1;
    this.#numbers.set(event, this.#published);
    return event;
  }

  join(topic: string, recover: Position | undefined, history: number): Joined {
    const kept = this.#kept(topic);
    const head = kept.length;
    const isKnown = recover !== undefined && this.#knows(recover, head);
    const from = isKnown ? recover.offset : head - Math.min(history, head);
    const recovered = isKnown || (recover === undefined && history > 0 && head > 0);
    const reply = { topic, epoch: this.#epoch, offset: recovered ? from : head, recovered };
    const gap = recover === undefined || recovered ? undefined : this.#missing(topic, head);
    return { reply, missed: recovered ? kept.slice(from) : [], gap };
  }

  /** The same of a pattern: SPEC.md, Recovery of patterns. `isNew`: the connection has not subscribed to it yet. */
  joinPattern(pattern: string, recover: PatternPosition | undefined, isNew: boolean): Joined {
    const now = { epoch: this.run, offset: this.#published };
    const recovered = recover !== undefined && recover.epoch === this.run && recover.offset <= this.#published;
    const known = recover?.topics ?? {};
    const missed = recovered
      ? [...this.#topics].flatMap(([topic, kept]) => (reaches(pattern, topic) ? this.#since(kept, recover.offset, known[topic]) : []))
      : [];
    // Until what was missed has arrived, only what was known before it may be counted on.
    const place = missed.length > 0 && recover !== undefined ? { epoch: recover.epoch, offset: recover.offset } : now;
    const asOf = isNew || recover !== undefined ? { as_of: place } : {};
    return { reply: { topic: pattern, epoch: null, offset: 0, recovered, ...asOf }, missed, gap: undefined };
  }

  /** The answer to `history`. */
  history(topic: string, after: Position | undefined, limit = 100): object {
    const kept = this.#kept(topic);
    const about = { topic, epoch: this.#epoch, offset: kept.length };
    if (after === undefined) {
      return { ...about, events: kept.slice(-limit), more: false };
    }
    const isKnown = this.#knows(after, kept.length);
    const from = isKnown ? after.offset : 0;
    const gap = isKnown ? {} : { gap: { ...this.#missing(topic, 0) } };
    return { ...about, events: kept.slice(from, from + limit), more: from + limit < kept.length, ...gap };
  }

  get #epoch(): string {
    return `${this.run}.0`;
  }

  #kept(topic: string): readonly Kept[] {
    return this.#topics.get(topic) ?? [];
  }

  #knows({ epoch, offset }: Position, head: number): boolean {
    return epoch === this.#epoch && offset <= head;
  }

  #since(kept: readonly Kept[], place: number, position: Position | undefined): readonly Kept[] {
    return position === undefined || !this.#knows(position, kept.length)
      ? kept.filter((event) => (this.#numbers.get(event) ?? 0) > place)
      : kept.slice(position.offset);
  }

  /** The gap of whoever was in another epoch. */
  #missing(topic: string, to: number): object {
    return { topic, epoch: this.#epoch, from: 1, to, reason: "epoch" };
  }
}

/** Whether a topic or pattern reaches a topic. */
export function reaches(pattern: string, topic: string): boolean {
  return matches(pattern.split("."), topic.split("."));
}
