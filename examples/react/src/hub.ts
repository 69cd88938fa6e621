import { useEffect, useState, useSyncExternalStore } from "react";
import { createClient, type ConnectionState } from "trunkline";
import { typed } from "./methods";

/** The one client of the page. It connects in the background, and again whenever the connection is lost. */
export const hub = typed(createClient("/ws"));

/** The state of the connection, as it changes. */
export function useConnectionState(): ConnectionState["state"] {
  return useSyncExternalStore(
    (tell) => hub.onConnectionState(tell),
    () => hub.connectionState,
  );
}

/** A question that anyone asked: an event of `chat.questions`. */
export interface Asked {
  readonly key: string;
  readonly at: Date;
  readonly question: string;
}

const KEPT = 20;

/** What is asked by all pages, newest first, and what was missed, if anything. */
export function useQuestions(): { asked: readonly Asked[]; missed: number } {
  const [asked, setAsked] = useState<readonly Asked[]>([]);
  const [missed, setMissed] = useState(0);
  useEffect(() => {
    const stop = new AbortController();
    void hub.on<{ question: string }>(
      "chat.questions",
      ({ question }, { epoch, offset, publishedAt }) => {
        const added = { key: `${epoch}/${offset}`, at: new Date(publishedAt), question };
        setAsked((earlier) => [added, ...earlier].slice(0, KEPT));
      },
      {
        signal: stop.signal,
        history: KEPT,
        onGap: ({ count }) => setMissed((earlier) => earlier + (count ?? 1)),
      },
    );
    return () => {
      stop.abort();
      setAsked([]);
    };
  }, []);
  return { asked, missed };
}
