/**
 * Numbers and times as people read them. What is not there is a dash: nothing is invented.
 */

export const NOTHING = "–";

/** A count: 1,234 or 12.3k from ten thousand on. */
export function count(value: number | undefined): string {
  if (value === undefined) {
    return NOTHING;
  }
  if (Math.abs(value) >= 1_000_000) {
    return `${trim(value / 1_000_000)}M`;
  }
  if (Math.abs(value) >= 10_000) {
    return `${trim(value / 1_000)}k`;
  }
  return Number.isInteger(value) ? value.toLocaleString("en-GB") : trim(value);
}

/** Milliseconds: 0.42 ms, 12.3 ms, 1.20 s, 3 min. */
export function milliseconds(value: number | undefined): string {
  if (value === undefined) {
    return NOTHING;
  }
  if (value < 1_000) {
    return `${digits(value)} ms`;
  }
  return value < 60_000 ? `${digits(value / 1_000)} s` : duration(value);
}

/** A span as two units at most: 12 s, 3 min 20 s, 2 h 5 min, 4 d 1 h. */
export function duration(value: number | undefined): string {
  if (value === undefined) {
    return NOTHING;
  }
  const seconds = Math.max(0, Math.floor(value / 1_000));
  const units: [number, string][] = [
    [86_400, "d"],
    [3_600, "h"],
    [60, "min"],
    [1, "s"],
  ];
  const first = units.findIndex(([size]) => seconds >= size);
  const parts = first === -1 ? [] : units.slice(first, first + 2);
  let rest = seconds;
  const told = parts.map(([size, name]) => {
    const many = Math.floor(rest / size);
    rest %= size;
    return many === 0 ? "" : `${many} ${name}`;
  });
  return told.filter((part) => part !== "").join(" ") || "0 s";
}

/** How long ago: "now", "12 s ago". */
export function ago(at: number, now: number): string {
  return now - at < 2_000 ? "now" : `${duration(now - at)} ago`;
}

/** MiB: 812 MB, 1.4 GB. */
export function megabytes(value: number | undefined): string {
  if (value === undefined) {
    return NOTHING;
  }
  return value < 1_024 ? `${digits(value)} MB` : `${trim(value / 1_024)} GB`;
}

/** Bytes: 12 B, 3.4 kB, 1.2 MB. */
export function bytes(value: number | undefined): string {
  if (value === undefined) {
    return NOTHING;
  }
  if (value < 1_000) {
    return `${Math.round(value)} B`;
  }
  return value < 1_000_000 ? `${trim(value / 1_000)} kB` : `${trim(value / 1_000_000)} MB`;
}

/** Percent: 0.4 %, 12 %. */
export function percent(value: number): string {
  return `${value === 0 || value >= 10 ? Math.round(value) : trim(value)} %`;
}

/** A part of 1, as percent. */
export function share(value: number): string {
  return percent(100 * value);
}

/** The time of day, with seconds. */
export function clock(at: number | undefined): string {
  return at === undefined ? NOTHING : new Date(at).toLocaleTimeString("en-GB");
}

/** "1 call", "2 calls". */
export function plural(many: number, one: string, more = `${one}s`): string {
  return `${count(many)} ${many === 1 ? one : more}`;
}

/** A member of the hub's as words: "request_count" is "request count". */
export function words(name: string): string {
  return name.replaceAll("_", " ");
}

/** "1st", "2nd", "3rd", "4th". */
export function ordinal(value: number): string {
  const teens = value % 100 >= 11 && value % 100 <= 13;
  return `${value}${teens ? "th" : (["th", "st", "nd", "rd"][value % 10] ?? "th")}`;
}

function digits(value: number): string {
  if (value >= 100 || value === 0) {
    return String(Math.round(value));
  }
  return value >= 10 ? value.toFixed(1) : value.toFixed(2);
}

function trim(value: number): string {
  return value.toFixed(Math.abs(value) >= 100 ? 0 : 1).replace(/\.0$/u, "");
}
