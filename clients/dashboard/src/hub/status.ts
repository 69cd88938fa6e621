/**
 * What stands at the top of the page, from everything that is known.
 */
import { computed } from "@preact/signals";
import { freshness, isLive } from "../core/freshness.ts";
import { milliseconds, plural } from "../core/format.ts";
import { isWorking, trouble } from "../core/incidents.ts";
import { executors, failures, health, metrics, refused, ring } from "./feeds.ts";
import { link, now } from "./link.ts";

export const fresh = computed(() => freshness(link.value, metrics.value?.at, now.value, refused.value["system.metrics"]));
export const live = computed(() => isLive(fresh.value));
/** How old the numbers are, undefined while they are live. In whole seconds, so that nothing is drawn again without need. */
export const oldBy = computed(() => {
  const { ageMs } = fresh.value;
  return live.value || ageMs === undefined ? undefined : Math.floor(ageMs / 1_000) * 1_000;
});

/** What is wrong, a sentence each. Executors tell sooner than the next look at the hub's health. */
export const causes = computed<readonly string[]>(() => {
  const names = new Set(executors.value.map(({ id }) => id));
  const ours = executors.value.filter((executor) => !isWorking(executor)).map((executor) => trouble(executor));
  const others = (health.value?.causes ?? []).filter((cause) => !names.has(cause.split(" ")[0] ?? ""));
  return [...ours, ...others];
});

/** What is said at the top is true of so many seconds: one bad second is no news. */
const CONCERN_SECONDS = 10;
/** How much of the work fails before it is said at the top. */
const FAILING_SHARE = 0.05;
/** How long calls may wait for an executor before it is said at the top. */
const LONG_WAIT_MS = 1_000;

/** What may be wrong although every executor works, a sentence each. */
export const concerns = computed<readonly string[]>(() => {
  if (metrics.value === undefined) {
    return [];
  }
  const [calls, errors, wait] = (["calls_per_second", "errors_per_second", "wait_p95_ms"] as const).map((name) =>
    ring.mean(name, CONCERN_SECONDS),
  ) as [number, number, number];
  const said: string[] = [];
  if (errors > 0 && errors >= calls * FAILING_SHARE) {
    const worst = failures.value[0];
    const example = worst === undefined ? "" : `, the last one ${worst.method}: ${worst.outcome}`;
    said.push(`${Math.round((100 * errors) / Math.max(calls, errors))} % of calls fail${example}`);
  }
  if (wait > LONG_WAIT_MS) {
    said.push(`one call in twenty waits longer than ${milliseconds(wait)} for an executor`);
  }
  return said;
});

/** How many executors work, in words. */
export const working = computed(() => {
  const all = executors.value;
  return `${all.filter((executor) => isWorking(executor)).length} of ${plural(all.length, "executor")} working`;
});

export type Condition = "healthy" | "degraded" | "unhealthy" | "starting" | "stopping" | "unknown";

/** One word for the hub: what it last said, unless executors have changed since. */
export const condition = computed<Condition>(() => {
  const said = health.value?.status;
  if (said === "stopping" || said === undefined) {
    return said ?? "unknown";
  }
  const up = executors.value.filter((executor) => isWorking(executor)).length;
  if (up === executors.value.length) {
    // What it says of executors is known here sooner; what else it says is not.
    const others = (health.value?.causes ?? []).filter((cause) => !/^executor-\d+ is /u.test(cause));
    return executors.value.length === 0 || others.length > 0 ? wordOf(said) : "healthy";
  }
  if (up > 0) {
    return "degraded";
  }
  const first = executors.value.every(({ status, restarts }) => status === "starting" && (restarts ?? 0) === 0);
  return first ? "starting" : "unhealthy";
});

function wordOf(said: string): Condition {
  const known: readonly string[] = ["healthy", "degraded", "unhealthy", "starting", "stopping"];
  return known.includes(said) ? (said as Condition) : "unknown";
}
