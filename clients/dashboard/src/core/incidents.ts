/**
 * Changes of executors since this page was loaded, in words.
 */
import { ordinal } from "./format.ts";
import type { Executor } from "./reports.ts";

export const MAX_INCIDENTS = 50;
const WORKING = new Set(["ready", "busy"]);

export interface Incident {
  readonly at: number;
  /** Which executor. */
  readonly id: string;
  readonly tone: "bad" | "warn" | "good";
  readonly text: string;
}

export function isWorking(executor: Executor): boolean {
  return WORKING.has(executor.status);
}

/** One executor's trouble as a sentence: "executor-1 is restarting: killed by SIGKILL (2nd time)". */
export function trouble(executor: Executor): string {
  const many = executor.restarts ?? 0;
  const word = executor.status === "starting" && many > 0 ? "restarting" : executor.status;
  const why = executor.lastFailure === undefined ? "" : `: ${executor.lastFailure}`;
  return `${executor.id} is ${word}${why}${many > 1 ? ` (${ordinal(many)} time)` : ""}`;
}

/** Whether other methods may be served than before: an executor has become ready, or another process is in its place. */
export function mayServeOthers(before: readonly Executor[], now: readonly Executor[]): boolean {
  const ready = new Map(before.filter((executor) => isWorking(executor)).map(({ id, pid }) => [id, pid]));
  return now.some((executor) => isWorking(executor) && !(ready.has(executor.id) && ready.get(executor.id) === executor.pid));
}

/** What is new between two reports. */
export function incidents(before: readonly Executor[], now: readonly Executor[], at: number): readonly Incident[] {
  const known = new Map(before.map((executor) => [executor.id, executor]));
  return now.flatMap((executor) => {
    const was = known.get(executor.id);
    return was === undefined ? [] : changes(was, executor, at);
  });
}

function changes(was: Executor, is: Executor, at: number): Incident[] {
  const restarted = (is.restarts ?? 0) > (was.restarts ?? 0);
  if (isWorking(is)) {
    if (restarted && isWorking(was)) {
      // It was down and up again between two reports.
      const why = is.lastFailure ?? causeOfRestart(was, is);
      return [{ at, id: is.id, tone: "bad", text: `${is.id} restarted${why === undefined ? "" : `: ${why}`}` }];
    }
    return isWorking(was) ? [] : [{ at, id: is.id, tone: "good", text: `${is.id} works${(is.restarts ?? 0) > 0 ? " again" : ""}` }];
  }
  const same = was.status === is.status && !restarted;
  // Counted as a restart is a failure, however soon its next process was seen starting.
  const tone = is.status === "starting" && !restarted ? "warn" : "bad";
  return same ? [] : [{ at, id: is.id, tone, text: trouble(is) }];
}

/** What kind of end was counted once more. */
function causeOfRestart(was: Executor, is: Executor): string | undefined {
  const grown = Object.entries(is.restartCauses).find(([cause, times]) => times > (was.restartCauses[cause] ?? 0));
  return grown?.[0].replaceAll("_", " ");
}
