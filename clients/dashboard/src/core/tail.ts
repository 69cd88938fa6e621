/**
 * A live tail: the last messages of a topic or pattern, what was dropped, and who speaks how often.
 */
import type { Gap, TopicMessage } from "trunkline";
import { jsonOf } from "./json.ts";

export const KEPT_MESSAGES = 500;

export interface TailRow {
  readonly number: number;
  readonly at: number;
  readonly topic: string;
  readonly text: string;
  /** A hole instead of an event. */
  readonly gap: boolean;
}

export interface Tail {
  readonly rows: readonly TailRow[];
  /** Events received, shown or not. */
  readonly received: number;
  /** Events announced as not delivered. */
  readonly dropped: number;
  /** Holes of which nobody knows how many events they swallowed. */
  readonly unknownGaps: number;
  readonly topics: Readonly<Record<string, number>>;
}

export const EMPTY_TAIL: Tail = { rows: [], received: 0, dropped: 0, unknownGaps: 0, topics: {} };

const MAX_TOPICS = 200;
const REASONS: Readonly<Record<string, string>> = {
  slow_consumer: "this page was too slow",
  client_slow: "this page was too slow",
  history: "older than what the hub keeps",
  epoch: "the topic has a new epoch",
  missing: "the hub did not send them",
  disconnected: "while disconnected",
};

/** How many events a gap swallowed; 0 where nobody knows. */
function missing({ count, from, to }: Gap): number {
  return count ?? (from > 0 ? to - from + 1 : 0);
}

/** A gap in words. */
export function describeGap(gap: Gap): string {
  const many = missing(gap);
  const what = many === 0 ? "an unknown number of events" : `${many} event${many === 1 ? "" : "s"}`;
  return `dropped ${what}: ${REASONS[gap.reason] ?? gap.reason}`;
}

export function withMessages(tail: Tail, messages: readonly TopicMessage[], now: number): Tail {
  let { received, dropped, unknownGaps } = tail;
  const topics: Record<string, number> = { ...tail.topics };
  const rows: TailRow[] = [];
  let number = received + dropped + unknownGaps;
  for (const message of messages) {
    number += 1;
    if (message.kind === "event") {
      received += 1;
      if (message.topic in topics || Object.keys(topics).length < MAX_TOPICS) {
        topics[message.topic] = (topics[message.topic] ?? 0) + 1;
      }
      rows.push({ number, at: message.publishedAt, topic: message.topic, text: jsonOf(message.data), gap: false });
    } else {
      const many = missing(message);
      dropped += many;
      unknownGaps += many === 0 ? 1 : 0;
      rows.push({ number, at: now, topic: message.topic, text: describeGap(message), gap: true });
    }
  }
  return { rows: [...tail.rows, ...rows].slice(-KEPT_MESSAGES), received, dropped, unknownGaps, topics };
}

/** The rows that contain a text, in topic or data. */
export function filtered(rows: readonly TailRow[], text: string): readonly TailRow[] {
  const wanted = text.trim().toLowerCase();
  return wanted === ""
    ? rows
    : rows.filter((row) => row.gap || row.topic.toLowerCase().includes(wanted) || row.text.toLowerCase().includes(wanted));
}
