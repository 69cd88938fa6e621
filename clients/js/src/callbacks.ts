/**
 * Functions of the caller's, called from where an exception has nowhere to go.
 */

/** Calls a listener; what it throws surfaces on its own. */
export function safely(listener: () => void): void {
  try {
    listener();
  } catch (error) {
    queueMicrotask(() => {
      throw error;
    });
  }
}
