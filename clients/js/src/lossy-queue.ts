/**
 * Messages that wait for a reader, a bounded number of them. What is dropped is announced in its place.
 */
import type { Gap, TopicMessage } from "./messages.js";
import { AsyncQueue } from "./queue.js";
import { gapOf } from "./sequence.js";

export class LossyQueue extends AsyncQueue<TopicMessage> {
  /** What was dropped, by topic. It was older than all that waits, so it is given first. */
  readonly #lost = new Map<string, Gap>();
  readonly #max: number;
  readonly #pattern: string;

  /** Holds `max` messages, and as many gaps; losses of still more topics are one gap of `pattern`. */
  constructor(max: number, pattern: string) {
    super();
    this.#max = max;
    this.#pattern = pattern;
  }

  override push(message: TopicMessage): void {
    super.push(message);
    if (this.size > this.#max) {
      this.#lose(this.shift() as TopicMessage);
    }
  }

  /** The next message, as an async iterator gives it. */
  override next(): Promise<IteratorResult<TopicMessage, undefined>> {
    const [lost] = this.#lost;
    if (lost === undefined) {
      return super.next();
    }
    const [topic, gap] = lost;
    this.#lost.delete(topic);
    return Promise.resolve({ done: false, value: gap });
  }

  /** No more messages, and none of those that wait: readers get `error` once, if given, then `done`. */
  stop(error?: unknown): void {
    this.#lost.clear();
    this.clear();
    if (error !== undefined) {
      this.fail(error);
    }
    this.end();
  }

  #lose(message: TopicMessage): void {
    let gap = asGap(message);
    if (!this.#lost.has(gap.topic) && this.#lost.size >= this.#max) {
      gap = { ...gap, topic: this.#pattern, epoch: "", from: 0, to: 0 };
    }
    const before = this.#lost.get(gap.topic);
    this.#lost.set(gap.topic, before === undefined ? gap : joined(before, gap));
  }
}

function asGap(message: TopicMessage): Gap {
  const { kind, topic, epoch } = message;
  return kind === "gap" ? message : gapOf(topic, { epoch, from: message.offset, to: message.offset }, "client_slow");
}

/** Two gaps of a topic, one behind the other, as one. */
function joined(first: Gap, second: Gap): Gap {
  return {
    ...second,
    from: first.epoch === second.epoch ? first.from : 1,
    count: first.count === undefined || second.count === undefined ? undefined : first.count + second.count,
    reason: "client_slow",
  };
}
