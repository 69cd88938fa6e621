/**
 * The small parts that every view is made of.
 */
import type { ComponentChildren, JSX } from "preact";
import { duration, NOTHING } from "../core/format.ts";
import { refused } from "../hub/feeds.ts";
import { live, oldBy } from "../hub/status.ts";

interface PanelProps {
  readonly id?: string;
  readonly title: string;
  readonly note?: ComponentChildren;
  readonly actions?: ComponentChildren;
  readonly class?: string;
  readonly children: ComponentChildren;
}

/** A titled part of a view. */
export function Panel({ id, title, note, actions, children, class: name }: PanelProps): JSX.Element {
  return (
    <section id={id} class={`panel ${name ?? ""}`} aria-label={title}>
      <header>
        <h2>{title}</h2>
        {note !== undefined && <span class="note">{note}</span>}
        {actions !== undefined && <span class="actions">{actions}</span>}
      </header>
      {children}
    </section>
  );
}

interface FigureProps {
  readonly label: string;
  readonly value: string;
  readonly tone?: "bad" | "warn" | undefined;
}

/** One number. When it is not of now it is grey and says its age. */
export function Figure({ label, value, tone }: FigureProps): JSX.Element {
  const age = oldBy.value;
  return (
    <div class={`figure ${live.value ? (tone ?? "") : "old"}`}>
      <dt>{label}</dt>
      <dd>
        {value}
        {age !== undefined && <small>{duration(age)} old</small>}
      </dd>
    </div>
  );
}

/** A column's head; one with `sort` is a button that sorts by it. */
export interface Head {
  readonly text: string;
  readonly number: boolean;
  readonly sort?: { readonly by: "ascending" | "descending" | "none"; readonly toggle: () => void };
}

interface TableProps {
  readonly label: string;
  readonly head: readonly (string | Head)[];
  readonly children: ComponentChildren;
  readonly class?: string;
}

/** A table that scrolls inside itself, with keys, too. */
export function Table({ label, head, children, class: name }: TableProps): JSX.Element {
  return (
    // oxlint-disable-next-line jsx-a11y/no-noninteractive-tabindex -- what scrolls has to be reachable by keys
    <div class={`scroll ${name ?? ""}`} role="region" aria-label={label} tabIndex={0}>
      <table>
        <thead>
          <tr>
            {head.map((cell) => (
              <HeadCell key={typeof cell === "string" ? cell : cell.text} cell={typeof cell === "string" ? { text: cell, number: false } : cell} />
            ))}
          </tr>
        </thead>
        <tbody>{children}</tbody>
      </table>
    </div>
  );
}

const ARROWS = { ascending: " \u2191", descending: " \u2193", none: "" } as const;

function HeadCell({ cell: { text, number, sort } }: { readonly cell: Head }): JSX.Element {
  return (
    <th scope="col" class={number ? "number" : ""} aria-sort={sort?.by}>
      {sort === undefined ? (
        text || <span class="hidden">Actions</span>
      ) : (
        <button type="button" class="sort" onClick={sort.toggle}>
          {text}
          <span aria-hidden="true">{ARROWS[sort.by]}</span>
        </button>
      )}
    </th>
  );
}

/** Why the hub does not tell of a topic, or answer a view's question; undefined where it does. */
export function notAllowed(source: string): string | undefined {
  const why = refused.value[source];
  return why === undefined ? undefined : `Not allowed: ${why}`;
}

/** What an error says, whole: what is too long for its place is read by opening it. */
export function Message({ text }: { readonly text: string | undefined }): JSX.Element | null {
  return text === undefined ? null : (
    <span class="message" title={text}>
      {text}
    </span>
  );
}

/** A text of several lines, such as a traceback, as it is: the first line on top. */
export function Lines({ text, label }: { readonly text: string; readonly label: string }): JSX.Element {
  return (
    // oxlint-disable-next-line jsx-a11y/no-noninteractive-tabindex -- what scrolls has to be reachable by keys
    <pre role="region" tabIndex={0} aria-label={label}>
      {text}
    </pre>
  );
}

/** Instead of a list that has nothing to show. */
export function Empty({ children }: { readonly children: ComponentChildren }): JSX.Element {
  return <p class="empty">{children}</p>;
}

/** A state as a coloured shape and a word: colour is never all there is. */
export function State({ tone, children }: { readonly tone: string; readonly children: ComponentChildren }): JSX.Element {
  return (
    <span class={`state ${tone}`}>
      <span class="dot" aria-hidden="true" />
      {children}
    </span>
  );
}

/** The colour of a call's outcome. */
export function toneOf(outcome: string): string {
  if (outcome === "ok") {
    return "good";
  }
  return outcome === "CANCELLED" || outcome === "unknown" ? "quiet" : "bad";
}

const TRACE_SHOWN = 12;

interface TraceProps {
  readonly id: string | undefined;
  /** Shows what else is known of it. */
  readonly follow?: (id: string) => void;
  /** Where following leads: "Log of". */
  readonly leads?: string;
}

/** A cell with a trace or request id: its beginning, the whole on demand; a button where it leads somewhere. */
export function Trace({ id, follow, leads }: TraceProps): JSX.Element {
  const text = id === undefined || id.length <= TRACE_SHOWN ? id : `${id.slice(0, TRACE_SHOWN)}…`;
  return (
    <td class="mono" title={id}>
      {id === undefined || follow === undefined ? (
        (text ?? NOTHING)
      ) : (
        <button type="button" class="link" aria-label={`${leads ?? ""} ${id}`} onClick={() => {
            follow(id);
          }}>
          {text}
        </button>
      )}
    </td>
  );
}
