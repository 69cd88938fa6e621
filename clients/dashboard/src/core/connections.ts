/**
 * Who is connected. The hub tells of comings and goings; a list of all, where it gives one, goes first.
 */
import type { ConnectionReport, ConnectionsReport, OpenedConnection } from "../hub/said.ts";
import { fieldsOf, listOf, numberOf, textOf, type Told } from "./reports.ts";

const KEPT_CLOSED = 50;
const KEPT_OPEN = 2_000;
const PLACES = new Set(["connection", "peer", "principal", "opened_at", "duration_ms", "transport", "client"]);

export interface ConnectionRow {
  readonly number: number;
  readonly peer: string | undefined;
  readonly principal: string | undefined;
  readonly transport: string | undefined;
  readonly client: string | undefined;
  readonly openedAt: number | undefined;
  readonly more: Readonly<Record<string, number>>;
}

export interface ClosedConnection {
  readonly number: number;
  readonly durationMs: number | undefined;
  readonly peer: string | undefined;
  readonly principal: string | undefined;
}

export interface Connections {
  /** How many are open, as the hub says. */
  readonly open: number | undefined;
  readonly rows: readonly ConnectionRow[];
  /** Latest first. */
  readonly closed: readonly ClosedConnection[];
  /** Comings and goings the hub counted but did not tell. */
  readonly dropped: number;
}

export const NO_CONNECTIONS: Connections = { open: undefined, rows: [], closed: [], dropped: 0 };

/** What is known after one more message of `system.connections`. */
export function withReport(known: Connections, data: unknown, at: number): Connections {
  const fields: Told<ConnectionsReport> = fieldsOf(data);
  const all = Array.isArray(fields.connections) ? listOf(fields.connections) : undefined;
  const rows = new Map((all === undefined ? known.rows : all.map((item) => rowOf(item, at))).map((row) => [row.number, row]));
  for (const item of listOf(fields.opened)) {
    const row = rowOf(item, at);
    rows.set(row.number, row);
  }
  const closed = listOf(fields.closed).map((item) => {
    const number = numberOf(item.connection) ?? -1;
    const row = rows.get(number);
    rows.delete(number);
    return { number, durationMs: numberOf(item.duration_ms), peer: row?.peer, principal: row?.principal };
  });
  return {
    open: numberOf(fields.open) ?? known.open,
    rows: [...rows.values()].slice(-KEPT_OPEN),
    closed: [...closed.toReversed(), ...known.closed].slice(0, KEPT_CLOSED),
    dropped: known.dropped + (numberOf(fields.dropped) ?? 0),
  };
}

function rowOf(item: Told<ConnectionReport & OpenedConnection>, at: number): ConnectionRow {
  const duration = numberOf(item.duration_ms);
  const more: Record<string, number> = {};
  for (const [name, value] of Object.entries(item)) {
    const number = numberOf(value);
    if (number !== undefined && !PLACES.has(name)) {
      more[name] = number;
    }
  }
  return {
    number: numberOf(item.connection) ?? -1,
    peer: textOf(item.peer),
    principal: textOf(item.principal),
    transport: textOf(item.transport),
    client: textOf(item.client),
    openedAt: numberOf(item.opened_at) ?? (duration === undefined ? undefined : at - duration),
    more,
  };
}
