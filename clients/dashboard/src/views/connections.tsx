/**
 * The open connections, and those closed lately.
 */
import type { JSX } from "preact";
import { bytes, count, duration, milliseconds, NOTHING, plural, words } from "../core/format.ts";
import type { ConnectionRow } from "../core/connections.ts";
import { connections, metrics } from "../hub/feeds.ts";
import { now } from "../hub/link.ts";
import { live } from "../hub/status.ts";
import { Empty, Figure, notAllowed, Panel, Table } from "../ui/parts.tsx";

const SHOWN = 200;
const SHOWN_CLOSED = 12;
/** Totals tell less than rates and what waits. */
const LAST = new Set(["received_bytes", "sent_bytes"]);

export function Connections(): JSX.Element {
  const numbers = metrics.value?.numbers ?? {};
  return (
    <>
      <h1 class="hidden">Connections</h1>
      {notAllowed("system.metrics") !== undefined && <p class="warning">{notAllowed("system.metrics")}</p>}
      <dl class="figures">
        <Figure label="connections" value={count(numbers.connections)} />
        <Figure label="subscriptions" value={count(numbers.subscriptions)} />
        <Figure label="streams" value={count(numbers.streams)} />
        <Figure label="in" value={perSecond(numbers.bytes_in_per_second)} />
        <Figure label="out" value={perSecond(numbers.bytes_out_per_second)} />
        <Figure label="outbox" value={bytes(numbers.buffered_bytes)} />
      </dl>
      <Open />
      <Closed />
    </>
  );
}

function perSecond(value: number | undefined): string {
  return value === undefined ? NOTHING : `${bytes(value)}/s`;
}

function Open(): JSX.Element {
  const { rows, open, dropped } = connections.value;
  const total = metrics.value?.numbers.connections ?? open;
  const unknown = total === undefined ? 0 : Math.max(0, total - rows.length);
  const names = [...new Set(rows.flatMap((row) => Object.keys(row.more)))];
  const extra = names.toSorted((one, other) => Number(LAST.has(one)) - Number(LAST.has(other)));
  const notes = [
    unknown > 0 ? `${plural(unknown, "more connection")} not listed` : "",
    dropped > 0 ? `${plural(dropped, "change")} not reported one by one` : "",
  ].filter((note) => note !== "");
  return (
    <Panel title="Open connections" note={notes.join("; ")}>
      {rows.length === 0 ? (
        <Empty>{notAllowed("system.connections") ?? "No connection was opened since this page was loaded."}</Empty>
      ) : (
        <Table
          label="Open connections"
          class={live.value ? "short" : "short old"}
          head={[{ text: "no.", number: true }, "peer", "principal", ...columnsOf(rows).map((column) => column.title), "open for", ...extra.map((name) => ({ text: title(name), number: true }) as const)]}
        >
          {rows.slice(0, SHOWN).map((row) => (
            <OpenRow key={row.number} row={row} rows={rows} extra={extra} />
          ))}
        </Table>
      )}
    </Panel>
  );
}

/** What older hubs do not say gets no column. */
const COLUMNS: readonly { readonly title: string; readonly of: (row: ConnectionRow) => string | undefined }[] = [
  { title: "transport", of: ({ transport }) => transport },
  { title: "client", of: ({ client }) => client },
];

function columnsOf(rows: readonly ConnectionRow[]): typeof COLUMNS {
  return COLUMNS.filter(({ of }) => rows.some((row) => of(row) !== undefined));
}

interface OpenRowProps {
  readonly row: ConnectionRow;
  readonly rows: readonly ConnectionRow[];
  readonly extra: readonly string[];
}

function OpenRow({ row, rows, extra }: OpenRowProps): JSX.Element {
  return (
    <tr>
      <td class="number">{row.number}</td>
      <td class="mono">{row.peer ?? NOTHING}</td>
      <td>{row.principal ?? NOTHING}</td>
      {columnsOf(rows).map((column) => (
        <td key={column.title} class="short" title={column.of(row)}>
          {column.of(row) ?? NOTHING}
        </td>
      ))}
      <td>{row.openedAt === undefined ? NOTHING : duration(now.value - row.openedAt)}</td>
      {extra.map((name) => (
        <td key={name} class="number">
          {worded(name, row.more[name])}
        </td>
      ))}
    </tr>
  );
}

/** The unit is the end of the name. */
function worded(name: string, value: number | undefined): string {
  if (name.endsWith("_ms")) {
    return milliseconds(value);
  }
  return name.includes("bytes") ? bytes(value) : count(value);
}

function title(name: string): string {
  return words(name.replace(/_ms$/u, "").replace(/_bytes_per_second$/u, "/s").replace(/_bytes$/u, ""));
}

function Closed(): JSX.Element {
  const closed = connections.value.closed.slice(0, SHOWN_CLOSED);
  return (
    <Panel title="Closed" note="latest first">
      {closed.length === 0 ? (
        <Empty>{notAllowed("system.connections") ?? "No connection was closed since this page was loaded."}</Empty>
      ) : (
        <Table label="Closed connections" head={[{ text: "no.", number: true }, "peer", "principal", "was open for"]}>
          {closed.map((row) => (
            <tr key={row.number}>
              <td class="number">{row.number}</td>
              <td class="mono">{row.peer ?? NOTHING}</td>
              <td>{row.principal ?? NOTHING}</td>
              <td>{duration(row.durationMs)}</td>
            </tr>
          ))}
        </Table>
      )}
    </Panel>
  );
}

