/**
 * How far what the page shows can be believed, in one word and one sentence.
 */
import { duration } from "./format.ts";

/** After so much silence of a topic that speaks once a second, its numbers are old. */
export const STALE_MS = 3_000;

/** What is known of the connection. */
export type Link =
  | { readonly state: "connecting"; readonly attempt: number }
  | { readonly state: "connected" }
  | { readonly state: "reconnecting"; readonly attempt: number; readonly since: number; readonly nextAt: number; readonly why: string }
  | { readonly state: "token"; readonly why: string }
  | { readonly state: "closed"; readonly why: string };

export type Word = "connecting" | "live" | "waiting" | "stale" | "reconnecting" | "token" | "closed";

export interface Freshness {
  readonly word: Word;
  /** For people: what is the matter, since when, and what happens next. */
  readonly sentence: string;
  /** How old the newest number is, in milliseconds; undefined where there is none. */
  readonly ageMs: number | undefined;
}

/**
 * @param link the connection
 * @param newest when the hub said the newest number, on this clock; undefined before the first
 * @param refused why the hub does not tell its numbers, if it refuses
 */
export function freshness(link: Link, newest: number | undefined, now: number, refused?: string): Freshness {
  const ageMs = newest === undefined ? undefined : Math.max(0, now - newest);
  return { ...worded(link, ageMs, now, refused), ageMs };
}

/** Whether numbers may be shown as the present. */
export function isLive({ word }: Freshness): boolean {
  return word === "live";
}

type Worded = Omit<Freshness, "ageMs">;

function worded(link: Link, ageMs: number | undefined, now: number, refused: string | undefined): Worded {
  switch (link.state) {
    case "connected":
      return connected(ageMs, refused);
    case "connecting": {
      const again = link.attempt > 1 ? `The hub does not answer (attempt ${link.attempt}).` : "Connecting to the hub.";
      return { word: "connecting", sentence: again };
    }
    case "reconnecting": {
      const next = link.nextAt <= now ? "now" : `in ${duration(link.nextAt - now + 999)}`;
      const cut = `The connection was cut ${duration(now - link.since)} ago${link.why}`;
      return { word: "reconnecting", sentence: `${cut}; attempt ${link.attempt} ${next}.` };
    }
    case "token":
      return { word: "token", sentence: link.why };
    case "closed":
      return { word: "closed", sentence: `${link.why} Reload the page to connect again.` };
  }
}

function connected(ageMs: number | undefined, refused: string | undefined): Worded {
  if (refused !== undefined) {
    return { word: "waiting", sentence: `Connected, but the hub refuses its metrics: ${refused}` };
  }
  if (ageMs === undefined) {
    return { word: "waiting", sentence: "Connected; the first numbers are due within two seconds." };
  }
  if (ageMs > STALE_MS) {
    return { word: "stale", sentence: `Connected, but no numbers for ${duration(ageMs)}.` };
  }
  return { word: "live", sentence: "Numbers are at most a second or two old." };
}
