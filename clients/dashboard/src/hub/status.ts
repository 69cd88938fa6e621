/**
 * What stands at the top of the page, from everything that is known.
 */
import { computed } from "@preact/signals";
import { freshness, isLive } from "../core/freshness.ts";
import { milliseconds, plural } from "../core/format.ts";
import { isWorking } from "../core/incidents.ts";
import { executors, health, metrics, refused, ring } from "./feeds.ts";
import { link, now } from "./link.ts";

export const fresh = computed(() => freshness(link.value, metrics.value?.at, now.value, refused.value["system.metrics"]));
export const live = computed(() => isLive(fresh.value));
/** How old the numbers are, undefined while they are live. In whole seconds, so that nothing is drawn again without need. */
export const oldBy = computed(() => {
  const { ageMs } = fresh.value;
  return live.value || ageMs === undefined ? undefined : Math.floor(ageMs / 1_000) * 1_000;
});

/** What is wrong, a sentence each, as the hub judges. */
export const causes = computed<readonly string[]>(() => health.value?.causes ?? []);

/** What is said at the top is true of so many seconds: one bad second is no news. */
const CONCERN_SECONDS = 10;
/** How long calls may wait for an executor before it is said at the top. */
const LONG_WAIT_MS = 1_000;

/** What may be wrong although everything is served, a sentence each. */
export const concerns = computed<readonly string[]>(() => {
  const wait = metrics.value === undefined ? 0 : ring.mean("wait_p95_ms", CONCERN_SECONDS);
  return wait > LONG_WAIT_MS ? [`one call in twenty waits longer than ${milliseconds(wait)} for an executor`] : [];
});

/** How many executors do not work. */
export const idle = computed(() => executors.value.filter((executor) => !isWorking(executor)).length);

/** How many executors work, in words. */
export const working = computed(() => {
  const all = executors.value;
  if (all.length === 0) {
    return refused.value.health === undefined ? "no executors" : "";
  }
  return `${all.length - idle.value} of ${plural(all.length, "executor")} working`;
});

export type Condition = "healthy" | "degraded" | "unhealthy" | "starting" | "stopping" | "unknown";

/** One word for the hub, as it judges. */
export const condition = computed<Condition>(() => wordOf(health.value?.status ?? "unknown"));

function wordOf(said: string): Condition {
  const known: readonly string[] = ["healthy", "degraded", "unhealthy", "starting", "stopping"];
  return known.includes(said) ? (said as Condition) : "unknown";
}
