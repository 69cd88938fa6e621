/**
 * Text that comes in pieces, as lines.
 */

/** The longest line, in characters; a longer one is given in parts, so that memory has a limit. */
export const MAX_LINE = 65_536;

/** Cuts text into lines, without their ends (`\n` or `\r\n`). */
export class LineSplitter {
  #rest = "";
  readonly #onLine: (line: string) => void;

  constructor(onLine: (line: string) => void) {
    this.#onLine = onLine;
  }

  /** More text. */
  push(text: string): void {
    const lines = (this.#rest + text).split("\n");
    this.#rest = lines.pop() ?? "";
    for (const line of lines) {
      this.#give(line.endsWith("\r") ? line.slice(0, -1) : line);
    }
    while (this.#rest.length > MAX_LINE) {
      this.#onLine(this.#rest.slice(0, MAX_LINE));
      this.#rest = this.#rest.slice(MAX_LINE);
    }
  }

  /** No more text: what is left is a line, too. */
  end(): void {
    if (this.#rest !== "") {
      this.#give(this.#rest);
      this.#rest = "";
    }
  }

  #give(line: string): void {
    for (let at = 0; at === 0 || at < line.length; at += MAX_LINE) {
      this.#onLine(line.slice(at, at + MAX_LINE));
    }
  }
}

/** The last few of many lines. */
export class LastLines {
  readonly #lines: string[] = [];
  readonly #size: number;

  constructor(size: number) {
    this.#size = size;
  }

  add(line: string): void {
    this.#lines.push(line);
    if (this.#lines.length > this.#size) {
      this.#lines.shift();
    }
  }

  get all(): readonly string[] {
    return [...this.#lines];
  }
}
