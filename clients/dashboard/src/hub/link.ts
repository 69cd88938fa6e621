/**
 * The one connection of this page: made, made again, and given a token when the hub wants one.
 */
import { signal } from "@preact/signals";
import { connect, ERROR_CODES, RpcError, type CloseInfo, type ConnectionState, type Hub } from "trunkline";
import type { Link } from "../core/freshness.ts";
import { fieldsOf } from "../core/reports.ts";
import { keepToken, token } from "./token.ts";

export const link = signal<Link>({ state: "connecting", attempt: 1 });
/** The connection, while there is one; it may be cut at the moment. */
export const hub = signal<Hub | undefined>(undefined);
/** Ticks twice a second, for everything that has an age. */
export const now = signal(Date.now());

const TICK_MS = 500;
const RETRY_MS = 1_000;
const RECONNECT = { minDelayMs: 250, maxDelayMs: 3_000 };
const WANTED = "This hub requires a token.";
const REFUSED = "The hub does not accept this token.";

setInterval(() => {
  now.value = Date.now();
}, TICK_MS);

let enter: (() => void) | undefined;
let refusal: string | undefined;

/** What somebody typed into the token form. */
export function enterToken(value: string): void {
  keepToken(value.trim());
  enter?.();
}

/** Forgets the token and starts anew. */
export function leave(): void {
  keepToken("");
  location.reload();
}

/** A call was refused since nobody knows who we are: ask, and connect again. */
export function refuse(error: unknown): boolean {
  if (error instanceof RpcError && error.code === ERROR_CODES.UNAUTHENTICATED) {
    askForToken();
    return true;
  }
  return false;
}

/**
 * Keeps a connection for as long as the page lives.
 *
 * @param opened is given each new connection; a reconnect of the same one is not a new one.
 */
export async function keepConnected(opened: (connection: Hub) => void): Promise<void> {
  for (;;) {
    // eslint-disable-next-line no-await-in-loop -- one connection after the other
    const connection = await open();
    hub.value = connection;
    link.value = { state: "connected" };
    connection.onConnectionState(follow);
    opened(connection);
    // eslint-disable-next-line no-await-in-loop
    const end = await connection.closed;
    hub.value = undefined;
    // eslint-disable-next-line no-await-in-loop
    await ended(end);
  }
}

async function open(): Promise<Hub> {
  for (let attempt = 1; ; attempt += 1) {
    link.value = { state: "connecting", attempt };
    try {
      // eslint-disable-next-line no-await-in-loop -- attempts follow each other
      return await connect(address(), { token: token.value || undefined, reconnect: RECONNECT });
    } catch {
      // A browser does not tell why: HTTP does. Whatever it was, it is tried again.
      // eslint-disable-next-line no-await-in-loop
      await ((await isRefused()) ? tokenEntered(token.value === "" ? WANTED : REFUSED) : pause(RETRY_MS));
    }
  }
}

async function ended({ code, reason }: CloseInfo): Promise<void> {
  if (refusal !== undefined || code === 4501) {
    const why = refusal ?? REFUSED;
    refusal = undefined;
    await tokenEntered(why);
    return;
  }
  link.value = { state: "closed", why: `The hub closed this connection, and it must not be reopened (${code}${reason && `: ${reason}`}).` };
  await new Promise(() => {});
}

function follow(state: ConnectionState): void {
  if (state.state === "connected") {
    link.value = { state: "connected" };
  } else if (state.state === "reconnecting") {
    const before = link.peek();
    const since = before.state === "reconnecting" ? before.since : Date.now();
    const { code, reason } = state.cause;
    const why = code === 1006 ? "" : ` (${code}${reason && `: ${reason}`})`;
    link.value = { state: "reconnecting", attempt: state.attempt, since, nextAt: Date.now() + state.delayMs, why };
    if (state.attempt > 1) {
      void lookWhetherRefused();
    }
  }
}

async function lookWhetherRefused(): Promise<void> {
  if (await isRefused()) {
    askForToken();
  }
}

function askForToken(): void {
  refusal = token.value === "" ? WANTED : REFUSED;
  void hub.peek()?.close();
}

/** Whether the hub answers, and wants other credentials than ours. */
async function isRefused(): Promise<boolean> {
  try {
    const headers: Record<string, string> = token.value === "" ? {} : { Authorization: `Bearer ${token.value}` };
    const answer = await fetch(new URL("health/detailed", document.baseURI), { headers, cache: "no-store" });
    return !answer.ok && fieldsOf(fieldsOf(await answer.json()).error).code === ERROR_CODES.UNAUTHENTICATED;
  } catch {
    return false;
  }
}

async function tokenEntered(why: string): Promise<void> {
  link.value = { state: "token", why };
  await new Promise<void>((resolve) => {
    enter = resolve;
  });
  enter = undefined;
}

function address(): string {
  const url = new URL("ws", document.baseURI);
  url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
  return url.href;
}

function pause(milliseconds: number): Promise<void> {
  return new Promise((resolve) => {
    setTimeout(resolve, milliseconds);
  });
}
