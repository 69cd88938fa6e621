/**
 * What `trunkline serve` says on stdout when it is up.
 */
const LISTENING = /^trunkline \S+ listening on (?<url>ws:\/\/\S+)$/u;
const READY = /^ready: /u;

/** Reads a hub's lines until it is up. */
export class Greeting {
  #url: string | undefined;
  readonly #untilReady: boolean;

  /** @param untilReady whether to wait for its methods, not only for its port. */
  constructor(untilReady: boolean) {
    this.#untilReady = untilReady;
  }

  /** @returns the hub's URL with the line that says it is up; undefined before that. */
  hear(line: string): string | undefined {
    this.#url ??= LISTENING.exec(line)?.groups?.url;
    return !this.#untilReady || READY.test(line) ? this.#url : undefined;
  }
}
