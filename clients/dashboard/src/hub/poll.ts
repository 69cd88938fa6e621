/**
 * Asks the hub again and again while a view that needs it is looked at.
 */
import { useEffect } from "preact/hooks";
import { isHubError } from "trunkline";
import { hub } from "./link.ts";

const TIMEOUT_MS = 5_000;

/** What is asked, and how often (`asks.json`). */
export interface Ask {
  readonly method: string;
  readonly params: object;
  readonly everyMs: number;
}

/**
 * @param polled undefined asks nothing.
 * @param failed hears why the hub does not answer this; it is asked again all the same.
 */
export function usePoll(polled: Ask | undefined, take: (result: unknown) => void, failed?: (why: string) => void): void {
  useEffect(() => {
    if (polled === undefined) {
      return undefined;
    }
    let asking = false;
    const look = async (): Promise<void> => {
      if (!asking) {
        asking = true;
        await ask(polled, take, failed);
        asking = false;
      }
    };
    void look();
    const timer = setInterval(() => void look(), polled.everyMs);
    return () => {
      clearInterval(timer);
    };
    // The callbacks only write signals: those of the first drawing are as good as later ones.
    // oxlint-disable-next-line react-hooks/exhaustive-deps
  }, [polled]);
}

async function ask({ method, params }: Ask, take: (result: unknown) => void, failed: ((why: string) => void) | undefined): Promise<void> {
  const connection = hub.peek();
  if (document.hidden || connection?.connectionState !== "connected") {
    return;
  }
  try {
    take(await connection.call(method, params, { timeoutMs: TIMEOUT_MS, retry: false }));
  } catch (error) {
    if (!isHubError(error)) {
      throw error;
    }
    failed?.(error.message);
  }
}
