/**
 * Moments in which it is worth looking whether the hub is there. Only browsers tell of them.
 */

interface Target {
  readonly visibilityState?: string;
  addEventListener?(type: string, listener: () => void): void;
  removeEventListener?(type: string, listener: () => void): void;
}

/**
 * Calls `wake` when the network is there again, or the page is looked at again.
 *
 * @returns a function that stops it.
 */
export function onWake(wake: () => void): () => void {
  const page = (globalThis as { document?: Target }).document;
  const show = (): void => {
    if (page?.visibilityState === "visible") {
      wake();
    }
  };
  const targets: [Target | undefined, string, () => void][] = [
    [globalThis, "online", wake],
    [page, "visibilitychange", show],
  ];
  for (const [target, type, listener] of targets) {
    target?.addEventListener?.(type, listener);
  }
  return () => {
    for (const [target, type, listener] of targets) {
      target?.removeEventListener?.(type, listener);
    }
  };
}
