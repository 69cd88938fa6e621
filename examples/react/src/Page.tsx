import { useRef, useState, type FormEvent, type KeyboardEvent } from "react";
import { useChat, type Turn } from "./chat";
import { useConnectionState, useQuestions } from "./hub";

const STATES = {
  connecting: "Connecting …",
  connected: "Connected",
  reconnecting: "Reconnecting …",
  closed: "Disconnected",
} as const;

const EXAMPLES = ["What is a lambda?", "How does the with statement work?", "What does yield do?"];

export function Page() {
  return (
    <div className="page">
      <header>
        <h1>Ask Python</h1>
        <Connection />
      </header>
      <Chat />
      <Questions />
    </div>
  );
}

function Connection() {
  const state = useConnectionState();
  return (
    <p className="connection" data-state={state} role="status">
      {STATES[state]}
    </p>
  );
}

function Chat() {
  const { turns, isAsking, ask, stop } = useChat();
  const [question, setQuestion] = useState("");
  const field = useRef<HTMLInputElement>(null);

  const submit = (event: FormEvent): void => {
    event.preventDefault();
    if (isAsking || question.trim() === "") return;
    ask(question.trim());
    setQuestion("");
    field.current?.focus();
  };
  const stopByKey = (event: KeyboardEvent): void => {
    if (event.key === "Escape") stop();
  };

  return (
    <main onKeyDown={stopByKey}>
      <div className="turns" tabIndex={0} role="log" aria-label="Questions and answers" aria-busy={isAsking}>
        <div>
          {turns.length === 0 && (
            <div className="welcome">
              <p>Answers are from Python’s own language reference.</p>
              {EXAMPLES.map((example) => (
                <button key={example} type="button" onClick={() => ask(example)}>
                  {example}
                </button>
              ))}
            </div>
          )}
          {turns.map((turn) => (
            <Exchange key={turn.id} turn={turn} />
          ))}
        </div>
      </div>
      <form onSubmit={submit}>
        <input
          ref={field}
          value={question}
          onChange={({ target }) => setQuestion(target.value)}
          aria-label="Question"
          placeholder="Ask about Python"
          maxLength={500}
          autoComplete="off"
          enterKeyHint="send"
          autoFocus
        />
        {isAsking ? (
          <button key="button" type="button" onClick={stop} title="Escape">
            Stop
          </button>
        ) : (
          <button key="button" type="submit">
            Ask
          </button>
        )}
      </form>
    </main>
  );
}

function Exchange({ turn: { question, answer, state, note } }: { turn: Turn }) {
  return (
    <article data-state={state}>
      <h2>{question}</h2>
      <p className="answer">{answer}</p>
      <p className="note" role={state === "failed" ? "alert" : undefined}>
        {state === "asking" ? "…" : note}
      </p>
    </article>
  );
}

function Questions() {
  const { asked, missed } = useQuestions();
  return (
    <aside aria-label="Asked by everybody">
      <h2>Asked by everybody</h2>
      <ul>
        {asked.map(({ key, at, question }) => (
          <li key={key}>
            <time dateTime={at.toISOString()}>{at.toLocaleTimeString([], { timeStyle: "short" })}</time> {question}
          </li>
        ))}
        {asked.length === 0 && <li className="none">Nothing yet.</li>}
        {missed > 0 && <li className="none">{missed} earlier ones were missed.</li>}
      </ul>
    </aside>
  );
}
