/**
 * Moments in which it is worth looking whether the hub is there. Only browsers tell of them.
 */

interface Target {
  readonly visibilityState?: string;
  addEventListener?(type: string, listener: () => void): void;
  removeEventListener?(type: string, listener: () => void): void;
}

/**
 * Calls `wake` when the network is there again, or the page is looked at again, comes out of the back/forward cache, or is
 * no longer frozen.
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
    [globalThis, "pageshow", wake],
    [page, "visibilitychange", show],
    [page, "resume", wake],
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
