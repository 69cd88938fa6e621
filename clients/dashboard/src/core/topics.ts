/**
 * The topics of the hub, from two looks at `system.topics`: what it counts becomes a rate between them.
 */
import type { SubscribedPattern, TopicList, TopicReport } from "../hub/said.ts";
import { fieldsOf, listOf, numberOf, textOf, type Told } from "./reports.ts";

export const DEFAULT_TENANT = "default";

export interface TopicRow {
  readonly topic: string;
  /** Whose it is: names of two tenants are not one topic. */
  readonly tenant: string;
  readonly epoch: string | undefined;
  /** Events since the topic began, as its last one is numbered; undefined where nobody has spoken yet. */
  readonly offset: number | undefined;
  /** Events a second since the look before; undefined at the first. */
  readonly perSecond: number | undefined;
  readonly subscribers: number | undefined;
  readonly kept: number | undefined;
  readonly keptBytes: number | undefined;
  /** When the oldest event that is kept was published, in milliseconds since 1970. */
  readonly oldestAt: number | undefined;
}

/** What tells a row from all others. */
export function keyOf({ topic, tenant }: Pick<TopicRow, "topic" | "tenant">): string {
  return `${tenant}\n${topic}`;
}

export interface TopicsLook {
  readonly at: number;
  readonly rows: readonly TopicRow[];
  /** Topics that the hub remembers and did not list. */
  readonly more: number;
  /** That of this page: what it follows is of this tenant. */
  readonly tenant: string;
}

export const SORTS = ["topic", "perSecond", "subscribers", "offset", "kept", "keptBytes", "oldestAt"] as const;
export type Sort = (typeof SORTS)[number];

/**
 * Topics that spoke, and what else somebody subscribed to.
 *
 * @param before the last look: of a topic whose count began anew there is no rate.
 */
export function lookAtTopics(result: unknown, before: TopicsLook | undefined, at: number): TopicsLook {
  const known = new Map(before?.rows.map((row) => [keyOf(row), row]));
  const seconds = before === undefined ? 0 : (at - before.at) / 1_000;
  const fields: Told<TopicList> = fieldsOf(result);
  const spoke = listOf(fields.topics).map((item: Told<TopicReport>): TopicRow => {
    const topic = textOf(item.topic) ?? "?";
    const tenant = textOf(item.tenant) ?? DEFAULT_TENANT;
    const [epoch, offset, was] = [textOf(item.epoch), numberOf(item.offset), known.get(keyOf({ topic, tenant }))];
    return {
      topic,
      tenant,
      epoch,
      offset,
      perSecond: rateOf(epoch, offset, was, seconds),
      subscribers: numberOf(item.subscribers),
      kept: numberOf(item.kept),
      keptBytes: numberOf(item.kept_bytes),
      oldestAt: numberOf(item.oldest_at),
    };
  });
  const keys = new Set(spoke.map((row) => keyOf(row)));
  const silent = listOf(fields.subscribed).flatMap((item: Told<SubscribedPattern>) => {
    const [topic, tenant] = [textOf(item.pattern), textOf(item.tenant) ?? DEFAULT_TENANT];
    return topic === undefined || keys.has(keyOf({ topic, tenant })) ? [] : [silentRow(topic, tenant, numberOf(item.subscribers))];
  });
  return { at, rows: [...spoke, ...silent], more: numberOf(fields.more) ?? 0, tenant: textOf(fields.tenant) ?? DEFAULT_TENANT };
}

function rateOf(epoch: string | undefined, offset: number | undefined, was: TopicRow | undefined, seconds: number): number | undefined {
  if (seconds <= 0 || offset === undefined || was === undefined) {
    return undefined;
  }
  // One that had not spoken at the last look has said all since.
  const before = was.epoch === undefined ? 0 : was.offset;
  const counts = was.epoch === undefined || was.epoch === epoch;
  return counts && before !== undefined && offset >= before ? (offset - before) / seconds : undefined;
}

function silentRow(topic: string, tenant: string, subscribers: number | undefined): TopicRow {
  const nothing = { epoch: undefined, offset: undefined, perSecond: undefined };
  return { topic, tenant, ...nothing, subscribers, kept: undefined, keptBytes: undefined, oldestAt: undefined };
}

/** Those whose name contains a text, in order; what is not known comes last whichever way. */
export function arranged(rows: readonly TopicRow[], text: string, sort: Sort, descending: boolean): readonly TopicRow[] {
  const wanted = text.trim().toLowerCase();
  const sign = descending ? -1 : 1;
  return rows
    .filter(({ topic }) => topic.toLowerCase().includes(wanted))
    .toSorted((one, other) => {
      const [a, b] = [one[sort], other[sort]];
      if (a === b || a === undefined || b === undefined) {
        return Number(a === undefined) - Number(b === undefined) || one.topic.localeCompare(other.topic);
      }
      return sign * (typeof a === "string" ? a.localeCompare(String(b)) : a - Number(b));
    });
}
