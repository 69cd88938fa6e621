/**
 * The topics of a mock hub: offsets, history and subscribers.
 */
import type { Position } from "../index.js";
import { isPattern, matches } from "../topics.js";

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
  readonly reply: { readonly topic: string; readonly epoch: string | null; readonly offset: number; readonly recovered: boolean };
  readonly missed: readonly Kept[];
  readonly gap: object | undefined;
}

export class MockTopics {
  #epoch = "mock.0";
  #epochs = 0;
  readonly #topics = new Map<string, Kept[]>();

  /** A hub that is started again remembers none. */
  forget(): void {
    this.#epochs += 1;
    this.#epoch = `mock.${this.#epochs}`;
    this.#topics.clear();
  }

  publish(topic: string, data: unknown, publisher: string): Kept {
    const kept = this.#topics.get(topic) ?? [];
    const event = { topic, data, epoch: this.#epoch, offset: kept.length + 1, published_at: Date.now(), publisher };
    this.#topics.set(topic, [...kept, event]);
    return event;
  }

  join(topic: string, recover: Position | undefined, history: number): Joined {
    if (isPattern(topic)) {
      return { reply: { topic, epoch: null, offset: 0, recovered: false }, missed: [], gap: undefined };
    }
    const kept = this.#topics.get(topic) ?? [];
    const head = kept.length;
    const isKnown = recover !== undefined && recover.epoch === this.#epoch && recover.offset <= head;
    const from = isKnown ? recover.offset : head - Math.min(history, head);
    const recovered = isKnown || (recover === undefined && history > 0 && head > 0);
    const reply = { topic, epoch: this.#epoch, offset: recovered ? from : head, recovered };
    const gap =
      recover === undefined || recovered ? undefined : { topic, epoch: this.#epoch, from: 1, to: head, reason: "epoch" };
    return { reply, missed: recovered ? kept.slice(from) : [], gap };
  }
}

/** Whether a topic or pattern reaches a topic. */
export function reaches(pattern: string, topic: string): boolean {
  return matches(pattern.split("."), topic.split("."));
}
