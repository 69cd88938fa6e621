/**
 * What one subscription gets of what its connection gets: every event after its own position, once and in order,
 * or a gap in its place.
 *
 * A connection gets an event once, however many of its subscriptions the event is for, and gets it again when one of
 * them recovers. Which of them have it already only their positions tell.
 */
import type { Gap, GapReason, Position, TopicMessage } from "./messages.js";

/** How many topics a pattern remembers positions of; beyond that it forgets the one that was silent longest. */
const MAX_TOPICS = 10_000;

/** How many events may overtake a replay. */
const MAX_EARLY = 1_024;

export class Sequence {
  readonly #emit: (message: TopicMessage) => void;
  /** By topic, the position of what was emitted last. */
  readonly #heads = new Map<string, Position>();
  /** Events that were on their way already when the replay was asked for, and came before it. */
  readonly #early: TopicMessage[] = [];
  #replaying = false;
  /** Whether no topic was forgotten since this was last set. */
  isWhole = true;

  constructor(emit: (message: TopicMessage) => void) {
    this.#emit = emit;
  }

  /** Says where a topic begins; patterns begin wherever they hear of a topic first. */
  start(topic: string, position: Position, replaying: boolean): void {
    this.#heads.set(topic, position);
    this.#replaying = replaying;
    if (!replaying) {
      this.#takeEarly();
    }
  }

  /** The position of what was emitted last of a topic. */
  headOf(topic: string): Position | undefined {
    return this.#heads.get(topic);
  }

  /** The positions of what was emitted last; undefined if those of some topics were forgotten. */
  get heads(): Readonly<Record<string, Position>> | undefined {
    return this.isWhole ? Object.fromEntries(this.#heads) : undefined;
  }

  /** Begins where another one of the same pattern is. */
  follow(other: Sequence): void {
    for (const [topic, head] of other.#heads) {
      this.#heads.set(topic, head);
    }
    this.isWhole = other.isWhole;
  }

  /** After a cut: what comes next may overtake the replay that is to be asked for. */
  cut(): void {
    this.#early.length = 0;
    this.#replaying = true;
  }

  /** Emits a message unless the subscription has it already; `isOwn`: a gap that answers this one. */
  take(message: TopicMessage, isOwn = false): void {
    const { topic, epoch } = message;
    const [from, to] = span(message);
    const head = this.#heads.get(topic);
    const anew = head !== undefined && head.epoch !== epoch;
    const due = dueAfter(head, epoch) ?? from;
    const isOld = !anew && (to < due || (!isOwn && isAnswer(message)));
    if (isOld || (from > due && this.#setAside(message))) {
      return;
    }
    if (from > due) {
      this.#emit(gapOf(topic, { epoch, from: due, to: from - 1 }, anew ? "epoch" : "missing"));
    }
    // The first part of this gap may have come as events: to another subscription's replay, for example.
    this.#emit(from < due && message.kind === "gap" ? { ...message, from: due, count: undefined } : message);
    this.#move(topic, { epoch, offset: to });
    const next = this.#early[0];
    if (next === undefined || span(next)[0] <= to + 1) {
      this.#takeEarly();
    }
  }

  /** While a replay is due: keeps what came before it. */
  #setAside(message: TopicMessage): boolean {
    const replaying = this.#replaying;
    if (replaying) {
      this.#early.push(message);
      if (this.#early.length > MAX_EARLY) {
        this.#takeEarly();
      }
    }
    return replaying;
  }

  #takeEarly(): void {
    this.#replaying = false;
    for (const message of this.#early.splice(0)) {
      this.take(message);
    }
  }

  #move(topic: string, position: Position): void {
    // Set anew, a topic goes to the end of the map: the first one is the one silent longest.
    this.#heads.delete(topic);
    this.#heads.set(topic, position);
    const [silent] = this.#heads.keys();
    if (silent !== undefined && this.#heads.size > MAX_TOPICS) {
      this.#heads.delete(silent);
      this.isWhole = false;
    }
  }
}

/** A gap. What is missing of another epoch nobody knows. */
export function gapOf(
  topic: string,
  { epoch, from, to }: { epoch: string; from: number; to: number },
  reason: GapReason,
): Gap {
  const count = reason === "epoch" ? undefined : to - from + 1;
  return { kind: "gap", topic, epoch, from, to, count, reason };
}

/**
 * Whether it is a gap that answers a `recover`. It is for the one subscription that asked, which knows it already
 * from the reply; to the others nothing is lost.
 */
function isAnswer(message: TopicMessage): boolean {
  return message.kind === "gap" && (message.reason === "history" || message.reason === "epoch");
}

/** The offset that comes next, if that is known. */
function dueAfter(head: Position | undefined, epoch: string): number | undefined {
  if (head === undefined) {
    return undefined;
  }
  return head.epoch === epoch ? head.offset + 1 : 1;
}

function span(message: TopicMessage): [from: number, to: number] {
  return message.kind === "event" ? [message.offset, message.offset] : [message.from, message.to];
}
