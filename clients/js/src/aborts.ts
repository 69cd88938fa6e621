/**
 * Who wants to know when a signal is aborted: one listener for all of them, since Node warns of more than ten.
 */
const WAITING = new WeakMap<AbortSignal, Set<() => void>>();

/** Calls `react` once the signal is aborted; gives a function that stops it. */
export function onAbort(signal: AbortSignal | undefined, react: () => void): () => void {
  if (signal === undefined) {
    return () => undefined;
  }
  const waiting = WAITING.get(signal) ?? new Set();
  WAITING.set(signal, waiting);
  if (waiting.size === 0) {
    signal.addEventListener("abort", tell);
  }
  const own = (): void => {
    react();
  };
  waiting.add(own);
  return () => {
    if (waiting.delete(own) && waiting.size === 0) {
      signal.removeEventListener("abort", tell);
    }
  };
}

function tell({ target }: { target: EventTarget | null }): void {
  for (const react of WAITING.get(target as AbortSignal) ?? []) {
    react();
  }
}
