/**
 * Why there is no hub.
 */

/** How a process ended, or why there was none. */
export interface ProcessEnd {
  readonly exitCode: number | null;
  readonly signal: string | null;
  /** Why it could not be started; then there is neither code nor signal. */
  readonly cause?: unknown;
}

/** The hub could not be started, was not ready in time, or ended by itself. */
export class SpawnError extends Error {
  override readonly name = "SpawnError";
  /** Undefined: it was ended by a signal, never ran, or was ended because it was not ready in time. */
  readonly exitCode: number | undefined;
  /** The signal that ended it. */
  readonly signal: string | undefined;
  /** The last lines of its stderr. */
  readonly stderr: readonly string[];

  /**
   * @param what what went wrong, for example `the hub ended with exit code 2`.
   * @param stderr its last lines; they become part of the message.
   */
  constructor(what: string, stderr: readonly string[], end?: ProcessEnd) {
    const words = stderr.length === 0 ? "" : `; its last words:\n${stderr.join("\n")}`;
    super(`${what}${words}`, end?.cause === undefined ? undefined : { cause: end.cause });
    this.exitCode = end?.exitCode ?? undefined;
    this.signal = end?.signal ?? undefined;
    this.stderr = stderr;
  }
}

/** Words for the end of a process. */
export function describeEnd({ exitCode, signal }: ProcessEnd): string {
  return signal === null ? `ended with exit code ${exitCode}` : `was ended by ${signal}`;
}
