import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { factsOf } from "../src/core/facts.ts";
import { mayServeOthers } from "../src/core/incidents.ts";
import { runningCallsOf } from "../src/core/inflight.ts";
import { arranged, look } from "../src/core/methods.ts";
import { hasRoutingKeys, methodsOf } from "../src/core/openrpc.ts";
import { executorOf, healthOf } from "../src/core/reports.ts";

const NOW = 1_700_000_000_000;

describe("what is served", () => {
  const executors = (...statuses: [string, number?][]): ReturnType<typeof executorOf>[] =>
    statuses.map(([status, pid = 7], index) => executorOf({ worker_id: `executor-${index}`, status, pid }));

  test("is asked again when an executor is ready, and when another process is in its place", () => {
    assert.equal(mayServeOthers(executors(["starting"]), executors(["ready"])), true);
    assert.equal(mayServeOthers(executors(["down"]), executors(["busy"])), true);
    assert.equal(mayServeOthers([], executors(["ready"])), true);
    assert.equal(mayServeOthers(executors(["ready", 7]), executors(["ready", 8])), true, "its code was loaded again");
  });

  test("is not asked again when an executor works, rests, or fails", () => {
    assert.equal(mayServeOthers(executors(["ready"], ["busy"]), executors(["busy"], ["ready"])), false);
    assert.equal(mayServeOthers(executors(["ready"], ["ready"]), executors(["ready"], ["down"])), false);
    assert.equal(mayServeOthers(executors(["starting", 7]), executors(["starting", 8])), false);
  });
});

test("the time that a call ran is apart from its age, which counts the queue", () => {
  const calls = [
    { call: 1, method: "ran", age_ms: 29_500, running_ms: 400, state: "running" },
    { call: 2, method: "waits", age_ms: 3_840, running_ms: null, state: "queued" },
  ];
  const shown = runningCallsOf({ calls }, NOW).map(({ ageMs, runningMs }) => [ageMs, runningMs]);
  assert.deepEqual(shown, [[29_500, 400], [3_840, undefined]]);
});

describe("methods that are not well", () => {
  const down = "no executor of the group small answers";
  const unavailable = (method: string, reason: string, since: number): object => ({ method, status: "unavailable", reason, since });
  const health = healthOf({
    methods: [
      unavailable("mine.a", down, NOW), unavailable("mine.b", down, NOW - 5), unavailable("broke.run", "module broke could not be loaded", NOW),
      { method: "other.fails", status: "failing", reason: "fails 100 %, 2/s", since: NOW },
    ],
    methods_more: 12,
  });
  const lines = look({ methods: { "busy.one": { count: 50, success: 50 }, "mine.b": { count: 9, success: 2 }, "other.fails": { count: 5, success: 0 } } }, undefined, NOW).lines;

  test("those that fail go first, each; then one row a reason, then all others", () => {
    const { failing, unavailable: groups, others } = arranged(lines, health.methods);
    assert.deepEqual(failing.map(({ line, concern }) => [line.name, concern.reason]), [["other.fails", "fails 100 %, 2/s"]]);
    assert.deepEqual(groups.map(({ reason, lines: own }) => [reason, own.map(({ name }) => name)]), [
      [down, ["mine.b", "mine.a"]],
      ["module broke could not be loaded", ["broke.run"]],
    ]);
    assert.deepEqual(others.map(({ name }) => name), ["busy.one"]);
  });

  test("a row of several has their sums, and says since when the first is not served", () => {
    const [group] = arranged(lines, health.methods).unavailable;
    assert.deepEqual([group?.since, group?.total.count, group?.total.failed, group?.total.p50], [NOW - 5, 9, 7, undefined]);
    assert.equal(health.methodsMore, 12);
  });
});

describe("the facts of an executor", () => {
  const executor = executorOf({ worker_id: "executor-0", status: "ready", slots: 16, slots_leaving: 0, latency_ms: 58.2, group: "small" });
  const values = (keyed: boolean, of = executor): Record<string, string> => Object.fromEntries(factsOf(of, keyed));

  test("the latency is that of its ping", () => {
    assert.equal(values(false).ping, "58.2 ms");
    assert.equal(values(false).group, "small");
    assert.equal(Object.keys(values(false)).some((label) => label.includes("latency")), false);
  });

  test("slots are told where methods have routing keys, and it has some", () => {
    assert.equal(Object.keys(values(false)).some((label) => label.includes("slots")), false);
    assert.deepEqual([values(true)["routing slots"], values(true)["moving slots"]], ["16", undefined]);
    const moves = executorOf({ slots: 16, slots_leaving: 3 });
    assert.equal(values(true, moves)["moving slots"], "3");
  });

  test("the list of methods says whether one has a routing key", () => {
    const served = (extension: object): ReturnType<typeof methodsOf> => methodsOf({ methods: [{ name: "a.b", "x-trunkline": extension }] });
    assert.deepEqual([hasRoutingKeys(served({})), hasRoutingKeys(served({ routing_key: "name" }))], [false, true]);
  });
});
