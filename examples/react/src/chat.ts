import { useEffect, useRef, useState } from "react";
import { hub } from "./hub";
import { inWords } from "./inWords";

/** A question, and what has come of it. */
export interface Turn {
  readonly id: number;
  readonly question: string;
  readonly answer: string;
  readonly state: "asking" | "answered" | "stopped" | "failed";
  /** Of an answer its topic, of a failure why. */
  readonly note: string;
}

export interface Chat {
  readonly turns: readonly Turn[];
  readonly isAsking: boolean;
  readonly ask: (question: string) => void;
  readonly stop: () => void;
}

/** A chat of one question at a time. It is stopped when its component is unmounted. */
export function useChat(): Chat {
  const [turns, setTurns] = useState<readonly Turn[]>([]);
  const running = useRef<AbortController | null>(null);
  const stop = (): void => running.current?.abort();
  useEffect(() => stop, []);

  const run = async (id: number, question: string, controller: AbortController): Promise<void> => {
    const change = (to: (turn: Turn) => Partial<Turn>): void =>
      setTurns((all) => all.map((turn) => (turn.id === id ? { ...turn, ...to(turn) } : turn)));
    try {
      const stream = hub.stream("chat.answer", { question }, { signal: controller.signal });
      for await (const { data } of stream) change(({ answer }) => ({ answer: answer + data }));
      const { topic } = await stream.result;
      change(() => ({ state: "answered", note: `From the chapter “${topic}”.` }));
    } catch (error) {
      if (controller.signal.aborted) change(() => ({ state: "stopped", note: "Stopped." }));
      else change(() => ({ state: "failed", note: inWords(error) }));
    } finally {
      running.current = null;
    }
  };

  const ask = (question: string): void => {
    if (running.current !== null) return;
    const controller = new AbortController();
    running.current = controller;
    const id = Date.now();
    setTurns((all) => [...all, { id, question, answer: "", state: "asking", note: "" }]);
    void run(id, question, controller);
  };

  return { turns, isAsking: turns.at(-1)?.state === "asking", ask, stop };
}
