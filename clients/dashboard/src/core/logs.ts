/**
 * The hub's log, as it comes on `system.logs`: the last records, and what was dropped.
 */
import type { TopicMessage } from "trunkline";
import { describeGap } from "./tail.ts";
import { fieldsOf, listOf, numberOf, textOf, type Fields } from "./reports.ts";

export const KEPT_RECORDS = 1_000;
export const LEVELS = ["debug", "info", "warning", "error", "critical"] as const;
const PLACES = new Set(["time", "level", "logger", "event", "executor", "request_id", "trace_id", "exception"]);
/** Says for each call that ended how it did. */
const CALLS = "trunkline.requests";
const CALL_PLACES = new Set(["method", "outcome", "code"]);

export interface LogRecord {
  readonly number: number;
  /** In milliseconds since 1970, as the hub says. */
  readonly at: number | undefined;
  readonly level: string;
  readonly logger: string;
  readonly text: string;
  /** The traceback, its first line on top. */
  readonly exception: string | undefined;
  readonly executor: string | undefined;
  readonly requestId: string | undefined;
  readonly traceId: string | undefined;
  /** Its further members, as "name=value". */
  readonly more: string;
  /** Says what is missing here, instead of a record. */
  readonly gap: boolean;
}

export interface Log {
  readonly records: readonly LogRecord[];
  readonly received: number;
  /** Records that the hub counted and did not tell, and those of messages that did not come, where their number is known. */
  readonly dropped: number;
}

export const EMPTY_LOG: Log = { records: [], received: 0, dropped: 0 };

export function withLogMessage(log: Log, message: TopicMessage, now: number): Log {
  const next = log.received + log.dropped + log.records.length;
  if (message.kind === "gap") {
    const row = gapRow(next, now, describeGap(message));
    return { ...log, records: [...log.records, row].slice(-KEPT_RECORDS) };
  }
  const fields = fieldsOf(message.data);
  const records = listOf(fields.records).map((item, index) => recordOf(item, next + index));
  const dropped = numberOf(fields.dropped) ?? 0;
  if (dropped > 0) {
    records.push(gapRow(next + records.length, message.publishedAt, `dropped ${dropped} records: too many at once`));
  }
  const received = log.received + records.length - (dropped > 0 ? 1 : 0);
  return { records: [...log.records, ...records].slice(-KEPT_RECORDS), received, dropped: log.dropped + dropped };
}

function gapRow(number: number, at: number, text: string): LogRecord {
  const nobody = { exception: undefined, executor: undefined, requestId: undefined, traceId: undefined };
  return { number, at, level: "warning", logger: "", text, ...nobody, more: "", gap: true };
}

function recordOf(item: Fields, number: number): LogRecord {
  const at = Date.parse(textOf(item.time) ?? "");
  const exception = textOf(item.exception);
  const event = eventOf(item);
  return {
    number,
    at: Number.isNaN(at) ? undefined : at,
    level: textOf(item.level) ?? "info",
    logger: textOf(item.logger) ?? "",
    text: event,
    exception,
    executor: textOf(item.executor),
    requestId: textOf(item.request_id),
    traceId: textOf(item.trace_id),
    more: Object.entries(item)
      .filter(([name]) => !PLACES.has(name) && !(item.logger === CALLS && CALL_PLACES.has(name)))
      .map(([name, value]) => `${name}=${typeof value === "string" ? value : JSON.stringify(value)}`)
      .join(" "),
    gap: false,
  };
}

function eventOf(item: Fields): string {
  const [method, outcome] = [textOf(item.method), textOf(item.outcome)];
  const isCall = item.logger === CALLS && method !== undefined && outcome !== undefined;
  return isCall ? `${method}: ${outcome}` : (textOf(item.event) ?? "");
}

export interface LogFilter {
  /** This level and worse. */
  readonly level: string;
  readonly text: string;
  /** "" is everybody, the hub included. */
  readonly executor: string;
}

/** What fits; what says that something is missing always does. */
export function fitting(records: readonly LogRecord[], { level, text, executor }: LogFilter): readonly LogRecord[] {
  const least = levelOf(level);
  const wanted = text.trim().toLowerCase();
  return records.filter((record) => {
    const words = [record.text, record.exception, record.logger, record.executor, record.requestId, record.traceId, record.more].join(" ");
    const fits = levelOf(record.level) >= least && (executor === "" || record.executor === executor);
    return record.gap || (fits && words.toLowerCase().includes(wanted));
  });
}

function levelOf(name: string): number {
  const place = LEVELS.findIndex((level) => level === name);
  return place === -1 ? 1 : place;
}
