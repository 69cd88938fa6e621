/**
 * The live tail: one subscription at a time, gathered a few times a second.
 */
import { signal } from "@preact/signals";
import { isHubError, type Subscription, type TopicMessage } from "trunkline";
import { EMPTY_TAIL, withMessages, type Tail } from "../core/tail.ts";
import { hub } from "../hub/link.ts";

const FLUSH_MS = 200;
/** While nobody draws, so many may wait; what is more the client announces as a gap. */
const MAX_QUEUED = 2_000;

export const tail = signal(EMPTY_TAIL);
/** What is followed; undefined: nothing. */
export const followed = signal<string | undefined>(undefined);
/** What stands in the form. */
export const wantedTopic = signal("");
/** The tail as it was when somebody pressed "Pause". */
export const paused = signal<Tail | undefined>(undefined);
export const failure = signal<string | undefined>(undefined);

let subscription: Subscription | undefined;

/** Follows another topic or pattern. */
export async function startTail(topic: string): Promise<void> {
  await stopTail();
  const connection = hub.peek();
  if (connection === undefined) {
    failure.value = "The page is not connected to the hub.";
    return;
  }
  failure.value = undefined;
  tail.value = EMPTY_TAIL;
  paused.value = undefined;
  try {
    const mine = await connection.subscribe(topic, { maxQueued: MAX_QUEUED });
    subscription = mine;
    followed.value = topic;
    await gather(mine);
  } catch (error) {
    if (!isHubError(error) && !(error instanceof TypeError)) {
      throw error;
    }
    failure.value = error.message;
    followed.value = undefined;
  }
}

export async function stopTail(): Promise<void> {
  const mine = subscription;
  subscription = undefined;
  followed.value = undefined;
  await mine?.unsubscribe();
}

async function gather(mine: Subscription): Promise<void> {
  let waiting: TopicMessage[] = [];
  let timer: ReturnType<typeof setTimeout> | undefined;
  const flush = (): void => {
    timer = undefined;
    if (subscription === mine) {
      tail.value = withMessages(tail.peek(), waiting, Date.now());
    }
    waiting = [];
  };
  for await (const message of mine) {
    waiting.push(message);
    timer ??= setTimeout(flush, FLUSH_MS);
  }
}
