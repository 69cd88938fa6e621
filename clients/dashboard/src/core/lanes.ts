/**
 * What each executor was doing during the last minutes, as stretches of one state.
 */
import type { Executor } from "./reports.ts";

/** How much of the past a lane shows. */
export const LANE_MS = 5 * 60_000;

export interface Stretch {
  readonly status: string;
  readonly from: number;
  /** Undefined while it lasts. */
  readonly to: number | undefined;
}

export type Lanes = ReadonlyMap<string, readonly Stretch[]>;

/** The lanes after a report; a lane whose executor is gone is dropped. */
export function withStates(lanes: Lanes, executors: readonly Executor[], at: number): Lanes {
  return new Map(executors.map(({ id, status }) => [id, extended(lanes.get(id) ?? [], status, at)]));
}

function extended(stretches: readonly Stretch[], status: string, at: number): readonly Stretch[] {
  const last = stretches.at(-1);
  const kept = stretches.filter(({ to }) => to === undefined || to > at - LANE_MS);
  if (last?.to === undefined && last?.status === status) {
    return kept;
  }
  const before = kept.map((stretch) => (stretch.to === undefined ? { ...stretch, to: at } : stretch));
  return [...before, { status, from: at, to: undefined }];
}

/** Of two states in one place the one that matters more is shown. */
const WEIGHT: Readonly<Record<string, number>> = { ready: 1, busy: 2, starting: 3, stopping: 3, silent: 4, down: 4 };
export const PLACES = 150;

export interface Run {
  readonly status: string;
  /** The first place and how many, of {@link PLACES}. */
  readonly from: number;
  readonly places: number;
}

/** A lane as it is drawn: so many places wide, neighbours of one state joined. */
export function runs(stretches: readonly Stretch[], now: number): readonly Run[] {
  const places: (string | undefined)[] = Array.from({ length: PLACES });
  const place = (at: number): number => Math.floor(((at - now) / LANE_MS + 1) * PLACES);
  for (const { status, from, to } of stretches) {
    const last = Math.min(PLACES - 1, place(to ?? now));
    for (let index = Math.max(0, place(from)); index <= last; index += 1) {
      const there = places[index];
      if (there === undefined || (WEIGHT[status] ?? 0) >= (WEIGHT[there] ?? 0)) {
        places[index] = status;
      }
    }
  }
  return joined(places);
}

function joined(places: readonly (string | undefined)[]): readonly Run[] {
  const found: Run[] = [];
  for (const [from, status] of places.entries()) {
    const last = found.at(-1);
    if (status !== undefined && last?.status === status && last.from + last.places === from) {
      found.splice(-1, 1, { ...last, places: last.places + 1 });
    } else if (status !== undefined) {
      found.push({ status, from, places: 1 });
    }
  }
  return found;
}

/** Nobody saw what happens from now on: the lanes end here. */
export function interrupted(lanes: Lanes, at: number): Lanes {
  return new Map(
    [...lanes].map(([id, stretches]) => [
      id,
      stretches.map((stretch) => (stretch.to === undefined ? { ...stretch, to: at } : stretch)),
    ]),
  );
}
