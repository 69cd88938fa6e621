import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { typedOf } from "../src/core/form.ts";
import { EMPTY_LOG, fitting, KEPT_RECORDS, withLogMessage } from "../src/core/logs.ts";
import { arranged, lookAtTopics } from "../src/core/topics.ts";

const NOW = 1_700_000_000_000;

describe("topics", () => {
  const said = (...topics: object[]): object => ({ topics, more: 4, subscribed: [{ pattern: "jobs.*", subscribers: 2 }, { pattern: "a", subscribers: 9 }] });
  const a = { topic: "a", epoch: "e", offset: 10, kept: 3, kept_bytes: 900, oldest_at: NOW, subscribers: 1 };

  test("rates are between two looks, of one epoch", () => {
    const first = lookAtTopics(said(a), undefined, NOW);
    assert.deepEqual([first.rows.length, first.more, first.rows[0]?.perSecond], [2, 4, undefined]);
    const second = lookAtTopics(said({ ...a, offset: 30 }, { ...a, topic: "jobs.*", offset: 4 }, { ...a, topic: "other" }), first, NOW + 2_000);
    assert.deepEqual(second.rows.map(({ topic, perSecond }) => [topic, perSecond]), [["a", 10], ["jobs.*", 2], ["other", undefined]]);
    const third = lookAtTopics(said({ ...a, epoch: "f", offset: 31 }), second, NOW + 4_000);
    assert.equal(third.rows[0]?.perSecond, undefined);
  });

  test("topics of one name are told apart by their tenants", () => {
    const look = (offset: number, before?: ReturnType<typeof lookAtTopics>): ReturnType<typeof lookAtTopics> =>
      lookAtTopics({ ...said(a, { ...a, offset, tenant: "acme" }), tenant: "acme" }, before, NOW + 100 * offset);
    const { rows, tenant } = look(30, look(10));
    assert.deepEqual(rows.map((row) => [row.topic, row.tenant, row.perSecond]), [["a", "default", 0], ["a", "acme", 10], ["jobs.*", "default", undefined]]);
    assert.equal(tenant, "acme");
  });

  test("what somebody only listens to is listed once, and sorted last", () => {
    const { rows } = lookAtTopics(said(a, { ...a, topic: "b", offset: 7 }), undefined, NOW);
    const names = (...by: [Parameters<typeof arranged>[2], boolean]): string[] => arranged(rows, "", ...by).map(({ topic }) => topic);
    assert.deepEqual(names("offset", true), ["a", "b", "jobs.*"]);
    assert.deepEqual(names("offset", false), ["b", "a", "jobs.*"]);
    assert.deepEqual(names("topic", true), ["jobs.*", "b", "a"]);
    assert.deepEqual(arranged(rows, " JOBS ", "topic", false).map(({ topic }) => topic), ["jobs.*"]);
  });
});

describe("the log", () => {
  const event = (records: object[], dropped = 0): Parameters<typeof withLogMessage>[1] => ({
    kind: "event", topic: "system.logs", epoch: "e", offset: 1, publishedAt: NOW, data: { records, dropped },
  });
  const one = { time: "2026-03-01T09:30:00.123+00:00", level: "info", logger: "trunkline", event: "ready", executor: "executor-1", methods: 7 };

  test("records are read with care, and what was dropped is a line", () => {
    const log = withLogMessage(EMPTY_LOG, event([one, { level: "error", event: "failed", exception: "KeyError: 'x'", executor: "executor-0" }], 7), NOW);
    assert.deepEqual([log.received, log.dropped], [2, 7]);
    const [first, second, gap] = log.records;
    assert.deepEqual([first?.at, first?.executor, first?.more], [Date.UTC(2026, 2, 1, 9, 30, 0, 123), "executor-1", "methods=7"]);
    assert.deepEqual([second?.at, second?.text, second?.exception, second?.executor], [undefined, "failed", "KeyError: 'x'", "executor-0"]);
    assert.deepEqual([gap?.gap, gap?.text], [true, "dropped 7 records: too many at once"]);
    assert.equal(new Set(log.records.map(({ number }) => number)).size, 3);
  });

  test("levels are this one and worse; holes fit every filter", () => {
    let log = withLogMessage(EMPTY_LOG, event(["debug", "info", "warning", "error"].map((level) => ({ ...one, level, trace_id: `t-${level}` }))), NOW);
    log = withLogMessage(log, { kind: "gap", topic: "system.logs", epoch: "e", from: 2, to: 3, count: 2, reason: "history" }, NOW);
    const texts = (filter: object): string[] => fitting(log.records, { level: "debug", text: "", executor: "", ...filter }).map(({ level, gap }) => (gap ? "gap" : level));
    assert.deepEqual(texts({ level: "warning" }), ["warning", "error", "gap"]);
    assert.deepEqual(texts({ text: "T-INFO" }), ["info", "gap"]);
    assert.deepEqual(texts({ executor: "executor-7" }), ["gap"]);
    const many = withLogMessage(log, event(Array.from({ length: KEPT_RECORDS + 5 }, () => one)), NOW);
    assert.equal(many.records.length, KEPT_RECORDS);
    assert.equal(new Set(many.records.map(({ number }) => number)).size, KEPT_RECORDS);
  });
});

test("params given by place are those of that place", () => {
  const params = [{ name: "text", required: true, schema: { type: "string" } }, { name: "n", required: false, schema: { type: "integer" } }];
  assert.deepEqual(typedOf(params, ["a", 3]), { text: "a", n: "3" });
  assert.deepEqual(typedOf(params, { n: 3 }), { n: "3" });
  assert.deepEqual(typedOf(params, undefined), {});
});
