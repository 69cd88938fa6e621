/**
 * What is published: each topic with its rate, its readers and its history, and a live tail of any of them.
 */
import { computed, signal } from "@preact/signals";
import type { JSX } from "preact";
import { ago, bytes, count, NOTHING } from "../core/format.ts";
import { arranged, DEFAULT_TENANT, keyOf, lookAtTopics, type Sort, type TopicRow, type TopicsLook } from "../core/topics.ts";
import asks from "../hub/asks.json" with { type: "json" };
import { catalogue, metrics } from "../hub/feeds.ts";
import { now } from "../hub/link.ts";
import { usePoll } from "../hub/poll.ts";
import { live } from "../hub/status.ts";
import { Empty, Figure, Panel, Table, type Head } from "../ui/parts.tsx";
import { TailPanel } from "./tail-panel.tsx";
import { followed, startTail, wantedTopic } from "./tail-state.ts";

const SHOWN = 200;
const latest = signal<TopicsLook | undefined>(undefined);
const refusal = signal<string | undefined>(undefined);
const text = signal("");
const sort = signal<Sort>("perSecond");
const descending = signal(true);
const canList = computed(() => catalogue.value.some(({ name }) => name === asks.views.topics.method));
const rows = computed(() => arranged(latest.value?.rows ?? [], text.value, sort.value, descending.value));

export function Topics(): JSX.Element {
  usePoll(
    canList.value ? asks.views.topics : undefined,
    (result) => {
      latest.value = lookAtTopics(result, latest.peek(), Date.now());
      refusal.value = undefined;
    },
    (why) => {
      refusal.value = why;
    },
  );
  const numbers = metrics.value?.numbers ?? {};
  return (
    <>
      <h1 class="hidden">Topics</h1>
      <dl class="figures">
        <Figure label="published/s" value={count(numbers.events_per_second)} />
        <Figure label="delivered/s" value={count(numbers.deliveries_per_second)} />
        <Figure label="subscriptions" value={count(numbers.subscriptions)} />
        <Figure label="events dropped" value={count(numbers.events_dropped)} tone={(numbers.events_dropped ?? 0) > 0 ? "warn" : undefined} />
      </dl>
      <List />
      <TailPanel />
    </>
  );
}

function List(): JSX.Element {
  const all = latest.value?.rows.length ?? 0;
  const hidden = (latest.value?.more ?? 0) + Math.max(0, rows.value.length - SHOWN);
  const note = hidden > 0 ? `the latest publications; ${count(hidden)} more topics are not shown` : "with events or subscribers";
  return (
    <Panel title="Topics" note={note}>
      <div class="filters" role="search" aria-label="Topics">
        <label class="grow">
          Find
          <input type="search" value={text.value} spellcheck={false} onInput={({ currentTarget }) => void (text.value = currentTarget.value)} />
        </label>
      </div>
      {rows.value.length === 0 ? (
        <Empty>{refusal.value ?? (canList.value ? (all === 0 ? "No topic has events or subscribers yet." : "No topic matches.") : "This hub does not list its topics.")}</Empty>
      ) : (
        <Table label="Topics" class={live.value ? "tall" : "tall old"} head={COLUMNS.map((column) => headOf(column))}>
          {rows.value.slice(0, SHOWN).map((row) => (
            <Row key={keyOf(row)} row={row} isOwn={row.tenant === latest.value?.tenant} />
          ))}
        </Table>
      )}
    </Panel>
  );
}

interface Column {
  readonly text: string;
  readonly by: Sort;
}

const COLUMNS: readonly Column[] = [
  { text: "topic", by: "topic" },
  { text: "events/s", by: "perSecond" },
  { text: "subscribers", by: "subscribers" },
  { text: "events", by: "offset" },
  { text: "kept", by: "kept" },
  { text: "kept size", by: "keptBytes" },
  { text: "oldest", by: "oldestAt" },
];

function headOf({ text: title, by }: Column): Head {
  const isSorted = sort.value === by;
  const toggle = (): void => {
    // Names from A, numbers from the largest, unless it is pressed again.
    descending.value = isSorted ? !descending.peek() : by !== "topic";
    sort.value = by;
  };
  const direction = descending.value ? "descending" : "ascending";
  return { text: title, number: by !== "topic", sort: { by: isSorted ? direction : "none", toggle } };
}

/** `isOwn`: the topic is of the tenant of this page, which would follow its own of this name otherwise. */
function Row({ row, isOwn }: { readonly row: TopicRow; readonly isOwn: boolean }): JSX.Element {
  const isFollowed = isOwn && followed.value === row.topic;
  return (
    <tr class={isFollowed ? "chosen" : ""}>
      <td>
        {isOwn ? (
          <button type="button" class="link mono" aria-pressed={isFollowed} aria-label={`Follow ${row.topic}`} onClick={() => {
              follow(row.topic);
            }}>
            {row.topic}
          </button>
        ) : (
          <span class="mono">{row.topic}</span>
        )}
        {row.tenant !== DEFAULT_TENANT && ` (${row.tenant})`}
      </td>
      <td class="number">{count(row.perSecond)}</td>
      <td class="number">{count(row.subscribers)}</td>
      <td class="number">{count(row.offset)}</td>
      <td class="number">{count(row.kept)}</td>
      <td class="number">{bytes(row.keptBytes)}</td>
      <td class="number">{row.oldestAt === undefined ? NOTHING : ago(row.oldestAt, now.value)}</td>
    </tr>
  );
}

function follow(topic: string): void {
  wantedTopic.value = topic;
  void startTail(topic);
  document.querySelector("#tail")?.scrollIntoView({ block: "nearest" });
}
