/**
 * The last quarter of an hour of `system.metrics`, as uPlot wants it: a column of times and one for each number.
 */
import type { Metrics } from "./reports.ts";

export const KEPT_SECONDS = 15 * 60;
/** Longer silence than this is a hole in the line, not a straight stroke across it. */
const HOLE_MS = 3_000;

export class MetricsRing {
  readonly #kept: (Metrics | { readonly at: number; readonly numbers: undefined })[] = [];

  /** Takes what came next. What is not later than the last is a repetition. */
  add(metrics: Metrics): boolean {
    const last = this.#kept.at(-1);
    if (last !== undefined && metrics.at <= last.at) {
      return false;
    }
    if (last !== undefined && metrics.at - last.at > HOLE_MS) {
      this.#kept.push({ at: last.at + 1, numbers: undefined });
    }
    this.#kept.push(metrics);
    const oldest = metrics.at - KEPT_SECONDS * 1_000;
    const first = this.#kept.findIndex(({ at }) => at >= oldest);
    this.#kept.splice(0, first);
    return true;
  }

  /** Puts in front what was before this page looked. */
  addPast(past: readonly Metrics[]): void {
    const first = this.#kept[0]?.at ?? Infinity;
    const oldest = (past.at(-1)?.at ?? 0) - KEPT_SECONDS * 1_000;
    this.#kept.unshift(...past.filter(({ at }) => at < first && at >= oldest));
  }

  /** When the oldest of what is kept was said. */
  get first(): number | undefined {
    return this.#kept[0]?.at;
  }

  /** The mean of a number over the last seconds. */
  mean(name: string, seconds: number): number {
    const since = (this.#kept.at(-1)?.at ?? 0) - seconds * 1_000;
    const values = this.#kept.flatMap(({ at, numbers }) => (at > since ? (numbers?.[name] ?? []) : []));
    return values.reduce((sum, value) => sum + value, 0) / Math.max(1, values.length);
  }

  /** Times in seconds, then a column for each name; null where the hub said nothing. */
  columns(names: readonly string[]): [number[], ...(number | null)[][]] {
    return [
      this.#kept.map(({ at }) => at / 1_000),
      ...names.map((name) => this.#kept.map(({ numbers }) => numbers?.[name] ?? null)),
    ];
  }
}
