/**
 * The console: pick a method, fill in its form, call or stream it, see what comes.
 */
import { computed, signal } from "@preact/signals";
import type { JSX } from "preact";
import { useEffect } from "preact/hooks";
import { plural } from "../core/format.ts";
import { catalogue, refreshCatalogue } from "../hub/feeds.ts";
import { hub } from "../hub/link.ts";
import { Empty, Panel } from "../ui/parts.tsx";
import { choose, chosen, method } from "./console-state.ts";
import { MethodForm } from "./method-form.tsx";
import { RunResult } from "./run-result.tsx";

const wanted = signal("");
const shown = computed(() => {
  const text = wanted.value.trim().toLowerCase();
  return catalogue.value.filter(({ name, summary }) => `${name} ${summary ?? ""}`.toLowerCase().includes(text));
});

export function Console(): JSX.Element {
  useEffect(askAgain, []);
  return (
    <>
      <h1 class="hidden">Console</h1>
      <div class="console">
        <MethodList />
        <div class="work">
          <Chosen />
          <RunResult />
        </div>
      </div>
    </>
  );
}

function Chosen(): JSX.Element {
  const picked = method.value;
  if (picked === undefined) {
    return (
      <Panel title="Call a method">
        <Empty>{chosen.value === undefined ? "Choose a method from the list." : `This hub does not serve ${chosen.value} any more.`}</Empty>
      </Panel>
    );
  }
  return <MethodForm key={picked.name} method={picked} />;
}

function askAgain(): void {
  const connection = hub.peek();
  if (connection !== undefined) {
    void refreshCatalogue(connection);
  }
}

function MethodList(): JSX.Element {
  const again = (
    <button type="button" onClick={askAgain}>
      Refresh
    </button>
  );
  return (
    <Panel title="Methods" note={plural(shown.value.length, "method")} actions={again} class="methods">
      <div class="filters">
        <label class="grow">
          Find
          <input type="search" value={wanted.value} onInput={({ currentTarget }) => void (wanted.value = currentTarget.value)} />
        </label>
      </div>
      {/* oxlint-disable-next-line jsx-a11y/no-noninteractive-tabindex -- what scrolls has to be reachable by keys */}
      <ul class="list" tabIndex={0} aria-label="Methods">
        {shown.value.map(({ name, summary, streaming }) => (
          <li key={name}>
            <button type="button" aria-pressed={chosen.value === name} title={summary} onClick={() => {
                choose(name);
              }}>
              <span class="mono">{name}</span>
              {streaming && <span class="tag">stream</span>}
            </button>
          </li>
        ))}
      </ul>
    </Panel>
  );
}
