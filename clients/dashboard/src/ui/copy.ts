/**
 * Copies text, and says so to everybody.
 */
import { signal } from "@preact/signals";

const SHOWN_MS = 2_500;

/** A short word about what was just done; shown and read out. */
export const notice = signal("");
let timer: ReturnType<typeof setTimeout> | undefined;

export function say(text: string): void {
  notice.value = text;
  clearTimeout(timer);
  timer = setTimeout(() => {
    notice.value = "";
  }, SHOWN_MS);
}

export async function copy(text: string, what: string): Promise<void> {
  try {
    await navigator.clipboard.writeText(text);
    say(`Copied ${what}`);
  } catch {
    // Without TLS browsers give no clipboard, on anything but localhost.
    say(copyBySelection(text) ? `Copied ${what}` : "The browser does not let this page copy");
  }
}

function copyBySelection(text: string): boolean {
  const area = document.createElement("textarea");
  area.value = text;
  document.body.append(area);
  area.select();
  // oxlint-disable-next-line typescript/no-deprecated -- there is nothing else without TLS
  const done = document.execCommand("copy");
  area.remove();
  return done;
}
