import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { NO_CONNECTIONS, withReport } from "../src/core/connections.ts";
import { grouped } from "../src/core/failures.ts";
import { duration, milliseconds, ordinal } from "../src/core/format.ts";
import { freshness, isLive } from "../src/core/freshness.ts";
import { incidents } from "../src/core/incidents.ts";
import { cancelParams, runningCallsOf } from "../src/core/inflight.ts";
import { runs, withStates, PLACES } from "../src/core/lanes.ts";
import { look } from "../src/core/methods.ts";
import { endedCallOf, executorOf, metricsOf, pastOf, type Fields } from "../src/core/reports.ts";
import { MetricsRing } from "../src/core/ring.ts";
import { Skew } from "../src/core/skew.ts";
import { EMPTY_TAIL, KEPT_MESSAGES, withMessages } from "../src/core/tail.ts";
import { NO_CHUNKS, withChunks } from "../src/core/waterfall.ts";

const NOW = 1_700_000_000_000;

describe("how far the page can be believed", () => {
  test("numbers are live for three seconds, and never without a connection", () => {
    const word = (age: number): string => freshness({ state: "connected" }, NOW - age, NOW).word;
    assert.equal(word(2_900), "live");
    assert.equal(word(3_100), "stale");
    const cut = { state: "reconnecting", attempt: 2, since: NOW - 4_000, nextAt: NOW + 1_500, why: "" } as const;
    const said = freshness(cut, NOW - 100, NOW);
    assert.equal(isLive(said), false);
    assert.equal(said.sentence, "The connection was cut 4 s ago; attempt 2 in 2 s.");
  });

  test("what arrives late is as old as it is", () => {
    const skew = new Skew();
    const hubClock = NOW - 3_600_000;
    assert.equal(skew.local(hubClock, NOW), NOW);
    // Said five seconds later, delayed by twenty.
    assert.equal(skew.local(hubClock + 5_000, NOW + 25_000), NOW + 5_000);
  });
});

describe("the ring of metrics", () => {
  const at = (seconds: number): ReturnType<typeof metricsOf> => metricsOf({ calls: seconds }, NOW + seconds * 1_000);

  test("holes stay holes, repetitions are dropped, a quarter of an hour is kept", () => {
    const ring = new MetricsRing();
    assert.equal(ring.add(at(0)), true);
    assert.equal(ring.add(at(0)), false);
    ring.add(at(1));
    ring.add(at(9));
    assert.deepEqual(ring.columns(["calls"])[1], [0, 1, null, 9]);
    ring.add(at(9 + 15 * 60));
    assert.deepEqual(ring.columns(["calls"])[1], [9, null, 9 + 15 * 60]);
  });

  test("the past goes in front, and does not overlap", () => {
    const ring = new MetricsRing();
    ring.add(at(0));
    const series = [2, 1, -1].map((ago) => ({ seconds_ago: ago, seconds: 2, calls: 10, errors: 1, p50_ms: 3 }));
    ring.addPast(pastOf({ series }, NOW));
    assert.deepEqual(ring.columns(["calls_per_second", "p50_ms"]).slice(1), [[5, 5, null], [3, 3, null]]);
  });
});

describe("executors in words", () => {
  const one = (more: object): ReturnType<typeof executorOf> => executorOf({ worker_id: "executor-1", restarts: 1, status: "ready", ...more });

  test("a restart between two reports is not missed", () => {
    const said = incidents([one({})], [one({ restarts: 2, last_failure: "killed by SIGKILL" })], NOW);
    assert.deepEqual(said, [{ at: NOW, tone: "bad", id: "executor-1", text: "executor-1 restarted: killed by SIGKILL" }]);
    const counted = incidents([one({})], [one({ restarts: 2, restart_causes: { killed_by_hub: 1 } })], NOW);
    assert.equal(counted[0]?.text, "executor-1 restarted: killed by hub");
  });

  test("cause and count are told", () => {
    const [said] = incidents([one({})], [one({ restarts: 2, status: "starting", last_failure: "out of memory" })], NOW);
    assert.equal(said?.text, "executor-1 is restarting: out of memory (2nd time)");
    // The report that would have said "down" fell between two: the lane still has to name this failure once it works again.
    assert.equal(said?.tone, "bad");
    const [plain] = incidents([one({ status: "down" })], [one({ status: "starting" })], NOW);
    assert.equal(plain?.tone, "warn");
    assert.deepEqual(["1st", "2nd", "3rd", "11th", "12th", "21st"], [1, 2, 3, 11, 12, 21].map((n) => ordinal(n)));
  });

  test("a lane shows the worse of what falls into one place", () => {
    let lanes = withStates(new Map(), [one({})], NOW - 60_000);
    lanes = withStates(lanes, [one({ status: "down" })], NOW - 30_000);
    lanes = withStates(lanes, [one({ status: "ready" })], NOW - 29_900);
    const drawn = runs(lanes.get("executor-1") ?? [], NOW);
    assert.deepEqual(drawn.map(({ status }) => status), ["ready", "down", "ready"]);
    assert.equal(drawn.reduce((sum, { places }) => sum + places, 0), PLACES / 5);
  });

  test("what the hub did not say is not made up", () => {
    const bare = executorOf({});
    assert.deepEqual([bare.restarts, bare.rssMb, bare.running, bare.cpuPercent], [undefined, undefined, undefined, undefined]);
    const newer: Fields = { gpu_mb: 7, model: "tiny" };
    assert.deepEqual(executorOf(newer).more, { gpu_mb: 7, model: "tiny" });
  });
});

describe("calls", () => {
  test("failures are one line a kind; what was cancelled is none", () => {
    const calls = ["ok", "WORKER_CRASHED", "WORKER_CRASHED", "CANCELLED"].map((outcome, number) =>
      endedCallOf({ method: "m", outcome, finished_at: NOW + number }, number),
    );
    const groups = grouped(grouped([], calls, NOW), calls.slice(0, 2), NOW);
    assert.deepEqual(groups.map(({ key, count, lastAt }) => [key, count, lastAt]), [["m WORKER_CRASHED", 3, NOW + 1]]);
  });

  test("a call can be cancelled where the hub says all that takes", () => {
    const cancel = {
      name: "system.cancel", summary: undefined, pack: undefined, streaming: false, idempotent: true, timeoutMs: undefined, routingKey: undefined,
      params: [{ name: "call", required: true, schema: {} }],
    };
    const [known, unknown] = runningCallsOf({ calls: [{ call: 7, method: "m", age_ms: 3 }, { method: "n" }] }, NOW);
    assert.ok(known !== undefined && unknown !== undefined);
    assert.deepEqual(cancelParams(cancel, known), { call: 7 });
    assert.equal(cancelParams(cancel, unknown), undefined);
    assert.equal(cancelParams(undefined, known), undefined);
  });

  test("rates are between two looks, and none after a restart", () => {
    const said = (count: number): object => ({ methods: { m: { count, success: count - 2, p50_ms: 1 } } });
    const first = look(said(10), undefined, NOW);
    const second = look(said(30), first, NOW + 2_000);
    assert.deepEqual([first.lines[0]?.perSecond, second.lines[0]?.perSecond, second.lines[0]?.failedPerSecond], [undefined, 10, 0]);
    assert.equal(look(said(3), second, NOW + 4_000).lines[0]?.perSecond, undefined);
  });

  test("connections come, go, and are listed anew", () => {
    let known = withReport(NO_CONNECTIONS, { opened: [{ connection: 1, opened_at: NOW }, { connection: 2 }], open: 5 }, NOW);
    known = withReport(known, { closed: [{ connection: 1, duration_ms: 9 }], dropped: 3 }, NOW);
    assert.deepEqual([known.rows.map(({ number }) => number), known.closed[0]?.number, known.open, known.dropped], [[2], 1, 5, 3]);
    known = withReport(known, { connections: [{ connection: 4, duration_ms: 1_000 }] }, NOW);
    assert.deepEqual(known.rows.map(({ number, openedAt }) => [number, openedAt]), [[4, NOW - 1_000]]);
  });
});

describe("streams and tails", () => {
  test("the longest gap is found across portions", () => {
    const chunk = (index: number, at: number): Parameters<typeof withChunks>[1][number] => ({ index, at, type: "data", size: 5, preview: "" });
    const fall = withChunks(withChunks(NO_CHUNKS, [chunk(0, 10), chunk(1, 20)]), [chunk(2, 90), chunk(3, 95)]);
    assert.deepEqual([fall.count, fall.firstMs, fall.longestGapMs, fall.longestGapAfter, fall.size], [4, 10, 70, 1, 20]);
  });

  test("dropped events are counted where the count is known, and holes where it is not", () => {
    const gap = { kind: "gap", topic: "a", epoch: "e", reason: "slow_consumer" } as const;
    const tail = withMessages(EMPTY_TAIL, [
      { kind: "event", topic: "a", epoch: "e", offset: 1, data: { n: 1 }, publishedAt: NOW },
      { ...gap, from: 2, to: 4, count: undefined },
      { ...gap, epoch: "", from: 0, to: 0, count: undefined, reason: "disconnected" },
    ], NOW);
    assert.deepEqual([tail.received, tail.dropped, tail.unknownGaps, tail.topics], [1, 3, 1, { a: 1 }]);
    assert.equal(tail.rows[1]?.text, "dropped 3 events: this page was too slow");
    const many = Array.from({ length: 900 }, (_, n) => ({ kind: "event", topic: "a", epoch: "e", offset: n, data: n, publishedAt: NOW }) as const);
    assert.equal(withMessages(tail, many, NOW).rows.length, KEPT_MESSAGES);
  });

  test("spans read well", () => {
    assert.deepEqual([0, 59_000, 60_000, 200_000, 7_500_000].map((ms) => duration(ms)), ["0 s", "59 s", "1 min", "3 min 20 s", "2 h 5 min"]);
    assert.deepEqual([undefined, 0.42, 12.34, 1_200].map((ms) => milliseconds(ms)), ["–", "0.42 ms", "12.3 ms", "1.20 s"]);
  });
});
