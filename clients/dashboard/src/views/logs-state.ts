/**
 * The hub's log while somebody looks at it: nothing is asked for, and the hub gathers nothing, while nobody does.
 */
import { effect, signal } from "@preact/signals";
import { isHubError, type Hub, type Position } from "trunkline";
import { EMPTY_LOG, withLogMessage } from "../core/logs.ts";
import { fieldsOf, listOf, numberOf, textOf } from "../core/reports.ts";
import asks from "../hub/asks.json" with { type: "json" };
import { hub } from "../hub/link.ts";

const TOPIC = asks.views.logs.topic;
const MAX_QUEUED = 500;

export const log = signal(EMPTY_LOG);
/** Why the hub does not tell; undefined: it does. */
export const refusal = signal<string | undefined>(undefined);

/** Where this page was when it stopped looking. */
let reached: Position | undefined;

/** Listens until the function that it returns is called, on each connection anew. */
export function listen(): () => void {
  const stop = new AbortController();
  const unwatch = effect(() => {
    const connection = hub.value;
    if (connection !== undefined) {
      void follow(connection, stop.signal);
    }
  });
  return () => {
    unwatch();
    stop.abort();
  };
}

async function follow(connection: Hub, until: AbortSignal): Promise<void> {
  try {
    const recover = reached ?? (await beginning(connection));
    const subscription = await connection.subscribe(TOPIC, { maxQueued: MAX_QUEUED, recover, signal: until });
    refusal.value = undefined;
    for await (const message of subscription) {
      log.value = withLogMessage(log.peek(), message, Date.now());
      reached = subscription.position;
    }
  } catch (error) {
    if (!isHubError(error)) {
      throw error;
    }
    refusal.value = error.kind === "rpc" ? error.message : undefined;
  }
}

/** Ahead of what the hub still has of its log, where it says so. */
async function beginning(connection: Hub): Promise<Position | undefined> {
  const { method, params } = asks.views.topics;
  const result = fieldsOf(await connection.call(method, params));
  const row = listOf(result.topics).find(({ topic }) => topic === TOPIC);
  const [epoch, offset, kept] = [textOf(row?.epoch), numberOf(row?.offset), numberOf(row?.kept)];
  return epoch === undefined || offset === undefined || kept === undefined ? undefined : { epoch, offset: offset - kept };
}
