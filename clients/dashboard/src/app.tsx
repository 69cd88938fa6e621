/**
 * The shell: where one is, how far what is shown can be believed, and the view.
 */
import { computed, effect, signal } from "@preact/signals";
import type { ComponentType, JSX } from "preact";
import type { Word } from "./core/freshness.ts";
import { enterToken, leave, link } from "./hub/link.ts";
import { causes, condition, fresh, idle, live } from "./hub/status.ts";
import { token } from "./hub/token.ts";
import { notice } from "./ui/copy.ts";
import { scheme, toggleScheme } from "./ui/theme.ts";
import { Connections } from "./views/connections.tsx";
import { Console } from "./views/console.tsx";
import { Executors } from "./views/executors.tsx";
import { Logs } from "./views/logs.tsx";
import { Overview } from "./views/overview.tsx";
import { Requests } from "./views/requests.tsx";
import { Topics } from "./views/topics.tsx";

interface View {
  readonly name: string;
  readonly title: string;
  readonly view: ComponentType;
}

const OVERVIEW: View = { name: "overview", title: "Overview", view: Overview };
const VIEWS: readonly View[] = [
  OVERVIEW,
  { name: "executors", title: "Executors", view: Executors },
  { name: "requests", title: "Requests", view: Requests },
  { name: "connections", title: "Connections", view: Connections },
  { name: "topics", title: "Topics", view: Topics },
  { name: "logs", title: "Logs", view: Logs },
  { name: "console", title: "Console", view: Console },
];

const hash = signal(location.hash);
addEventListener("hashchange", () => {
  hash.value = location.hash;
});
const current = computed(() => VIEWS.find(({ name }) => hash.value === `#/${name}`) ?? OVERVIEW);

const WORDS: Readonly<Record<Word, string>> = {
  connecting: "Connecting",
  live: "Live",
  waiting: "Connected",
  stale: "Stale",
  reconnecting: "Reconnecting",
  token: "Not signed in",
  closed: "Closed",
};
const TONES: Readonly<Record<Word, string>> = {
  connecting: "warn",
  live: "good",
  waiting: "busy",
  stale: "bad",
  reconnecting: "bad",
  token: "warn",
  closed: "bad",
};

// What is wrong is said by the tab, too.
effect(() => {
  const { word } = fresh.value;
  const lost = word === "stale" || word === "reconnecting" || word === "closed";
  const trouble = lost ? WORDS[word] : (causes.value[0] ?? (condition.value === "unhealthy" ? "Unhealthy" : ""));
  document.title = trouble === "" ? "Trunkline" : `! ${trouble} · Trunkline`;
});

export function App(): JSX.Element {
  const View = current.value.view;
  return (
    <>
      <a class="skip" href="#main" onClick={skip}>
        Skip to content
      </a>
      <header class="top">
        <a class="brand" href="#/overview">
          Trunkline
        </a>
        <Navigation />
        <Belief />
        <button type="button" class="plain" onClick={toggleScheme}>
          {scheme.value === "dark" ? "Light" : "Dark"}
        </button>
        {token.value !== "" && link.value.state !== "token" && (
          <button type="button" class="plain" onClick={leave}>
            Sign out
          </button>
        )}
      </header>
      <main id="main" tabIndex={-1} class={live.value ? "" : "not-live"}>
        {link.value.state === "token" ? <TokenForm /> : <View />}
      </main>
      <p class="notice" role="status">
        {notice}
      </p>
    </>
  );
}

/** The address names the view, so that the link to the content must not change it. */
function skip(event: Event): void {
  event.preventDefault();
  document.querySelector("main")?.focus();
}

function Navigation(): JSX.Element {
  return (
    <nav aria-label="Views">
      {VIEWS.map(({ name, title }) => (
        <a key={name} href={`#/${name}`} aria-current={current.value.name === name ? "page" : undefined}>
          {title}
          {name === "executors" && idle.value > 0 && (
            <span class="badge">
              {idle.value}
              <span class="hidden"> not working</span>
            </span>
          )}
        </a>
      ))}
    </nav>
  );
}

/** Whether the numbers shown are live. */
function Belief(): JSX.Element {
  const { word, sentence } = fresh.value;
  return (
    <p class={`belief ${TONES[word]}`} title={sentence}>
      <span class="dot" aria-hidden="true" />
      <b role="status">{WORDS[word]}</b>
      {word !== "live" && word !== "waiting" && word !== "token" && <span class="sentence">{sentence}</span>}
    </p>
  );
}

const entered = signal("");

function TokenForm(): JSX.Element {
  return (
    <section class="panel token" aria-label="Sign in">
      <h1>Sign in</h1>
      <p role="alert">{fresh.value.sentence}</p>
      <form
        onSubmit={(event) => {
          event.preventDefault();
          enterToken(entered.value);
          entered.value = "";
        }}
      >
        <label>
          Token
          <input type="password" required autocomplete="off" value={entered.value} onInput={({ currentTarget }) => void (entered.value = currentTarget.value)} />
        </label>
        <button type="submit" class="primary">
          Connect
        </button>
      </form>
      <p class="note">Kept until this tab is closed.</p>
    </section>
  );
}
