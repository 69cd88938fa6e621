/**
 * The live tail as people see it: filter, pause, and what was dropped.
 */
import { computed, signal } from "@preact/signals";
import type { JSX } from "preact";
import { clock, count, plural } from "../core/format.ts";
import { filtered, type TailRow } from "../core/tail.ts";
import { Empty, Panel, Table } from "../ui/parts.tsx";
import { copy } from "../ui/copy.ts";
import { failure, followed, paused, startTail, stopTail, tail, wantedTopic } from "./tail-state.ts";

const SHOWN = 150;
const SHOWN_TOPICS = 8;
const text = signal("");
const rows = computed(() => filtered((paused.value ?? tail.value).rows, text.value).slice(-SHOWN).toReversed());

export function TailPanel(): JSX.Element {
  return (
    <Panel id="tail" title="Live tail" note={followed.value === undefined ? "events of a topic or pattern" : <Counts />}>
      <TailForm />
      {failure.value !== undefined && (
        <p class="warning" role="alert">
          {failure.value}
        </p>
      )}
      {followed.value !== undefined && <Busiest />}
      <Rows />
    </Panel>
  );
}

function TailForm(): JSX.Element {
  const isPaused = paused.value !== undefined;
  return (
    <form
      class="filters"
      onSubmit={(event) => {
        event.preventDefault();
        void startTail(wantedTopic.value.trim());
      }}
    >
      <label class="grow">
        Topic or pattern
        <input required value={wantedTopic.value} placeholder="jobs.>" spellcheck={false} autocomplete="off" onInput={({ currentTarget }) => void (wantedTopic.value = currentTarget.value)} />
      </label>
      <button type="submit" class="primary">
        Follow
      </button>
      <button type="button" disabled={followed.value === undefined} onClick={() => void stopTail()}>
        Stop
      </button>
      <label class="grow">
        Containing
        <input type="search" value={text.value} onInput={({ currentTarget }) => void (text.value = currentTarget.value)} />
      </label>
      <button type="button" aria-pressed={isPaused} disabled={followed.value === undefined} onClick={() => void (paused.value = isPaused ? undefined : tail.value)}>
        {isPaused ? `Resume (${count(tail.value.received - (paused.value?.received ?? 0))} new)` : "Pause"}
      </button>
    </form>
  );
}

function Counts(): JSX.Element {
  const { received, dropped, unknownGaps } = tail.value;
  return (
    <>
      <span class="mono">{followed.value}</span>: {plural(received, "event")}
      <b class={dropped + unknownGaps > 0 ? "bad" : ""}>
        , dropped {count(dropped)}
        {unknownGaps > 0 && `, and ${plural(unknownGaps, "gap")} of unknown size`}
      </b>
    </>
  );
}

function Busiest(): JSX.Element {
  const all = Object.entries(tail.value.topics);
  const top = all.toSorted(([, one], [, other]) => other - one).slice(0, SHOWN_TOPICS);
  return (
    <ul class="chips" aria-label="Topics seen">
      {top.map(([name, many]) => (
        <li key={name}>
          <button type="button" onClick={() => void (text.value = name)}>
            <span class="mono">{name}</span> {count(many)}
          </button>
        </li>
      ))}
      {all.length > top.length && <li class="note">and {plural(all.length - top.length, "more topic")}</li>}
    </ul>
  );
}

function Rows(): JSX.Element {
  if (rows.value.length === 0) {
    return <Empty>{followed.value === undefined ? "Follow a topic or pattern to see its events." : "No event yet."}</Empty>;
  }
  return (
    <Table label="Events" head={["at", "topic", "data", ""]} class="tall">
      {rows.value.map((row) => (
        <Row key={row.number} row={row} />
      ))}
    </Table>
  );
}

const MAX_TEXT = 300;

function Row({ row }: { readonly row: TailRow }): JSX.Element {
  const cut = row.text.length > MAX_TEXT ? `${row.text.slice(0, MAX_TEXT)}…` : row.text;
  return (
    <tr class={row.gap ? "gap" : ""}>
      <td>{clock(row.at)}</td>
      <td class="mono">{row.topic}</td>
      <td class={row.gap ? "wide" : "wide mono"}>{cut}</td>
      <td class="buttons">
        {!row.gap && (
          <button type="button" aria-label={`Copy event of ${row.topic}`} onClick={() => void copy(row.text, "the event")}>
            Copy
          </button>
        )}
      </td>
    </tr>
  );
}
