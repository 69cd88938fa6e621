/**
 * The subscriptions of a connection: what the hub was asked for, and who reads it.
 */
import { gapIn, isFields, type Fields } from "./decode.js";
import { DisconnectedError, ProtocolError, RpcError, TrunklineError } from "./errors.js";
import { historyOf } from "./history.js";
import type { TopicHistory } from "./hub.js";
import { checkKnown } from "./known.js";
import type { Gap, Position, TopicMessage } from "./messages.js";
import type { CallOptions, HistoryOptions, SubscribeOptions } from "./options.js";
import { EventSubscription, listenTo, type Listener, type Start, type Subscription } from "./subscription.js";
import { isPattern, matches } from "./topics.js";

/** What subscriptions need of the client. */
export interface Asking {
  /**
   * Calls a method. `read` looks at the result the moment it arrives; what it throws rejects.
   *
   * @param once not again if the connection is cut meanwhile.
   */
  ask<R>(method: string, params: object, options: CallOptions, read: (result: unknown) => R, once?: boolean): Promise<R>;
  /** Waits so many milliseconds, or until the client is closed. */
  backOff(ms: number): Promise<void>;
  warn(message: string): void;
}

/** A topic or pattern the hub was asked for. The hub counts it once, so it is left when nobody wants it any more. */
interface Entry {
  readonly topic: string;
  readonly tokens: readonly string[];
  readonly readers: Set<EventSubscription<unknown>>;
  /** Readers, and subscriptions the hub has not answered yet. */
  interest: number;
  /** Whether the hub may be delivering it. */
  atHub: boolean;
  /** `unsubscribe` requests in flight; until they are answered, events may come for nobody. */
  leaving: number;
}

/** What {@link SubscribeOptions} may have. */
const KNOWN = new Set(["recover", "history", "onGap", "signal", "maxQueued"]);

/** When to subscribe again if the hub refuses it for the moment without a hint, in milliseconds. */
const RETRY_MS = 1_000;

export class SubscriptionTable {
  readonly #client: Asking;
  readonly #topics = new Map<string, Entry>();
  readonly #patterns = new Map<string, Entry>();
  /** Tells the present connection from earlier ones. */
  #connection = 0;

  constructor(client: Asking) {
    this.#client = client;
  }

  /** With a listener it reads by itself. */
  async subscribe<T>(topic: string, options: SubscribeOptions, listener?: Listener<T>): Promise<Subscription<T>> {
    if (typeof topic !== "string") {
      throw new TypeError("topic has to be a string");
    }
    if (typeof options === "function") {
      throw new TypeError("subscribe gives what a loop reads: on(topic, listener) takes a listener");
    }
    checkKnown(options, KNOWN);
    checkMaxQueued(options.maxQueued);
    const entry = this.#entryOf(topic);
    entry.interest += 1;
    try {
      const subscription = await this.#begin<T>(topic, entry, options);
      if (listener !== undefined) {
        void listenTo(subscription, listener);
      }
      return subscription;
    } catch (error) {
      // Of a request that was given up nobody knows whether the hub has dealt with it.
      entry.atHub ||= error instanceof TrunklineError && error.maybeExecuted;
      void this.#release(entry);
      throw error;
    }
  }

  /** What the hub keeps of a topic, without a subscription. */
  history<T>(topic: string, { after, limit, ...options }: HistoryOptions): Promise<TopicHistory<T>> {
    const params = { topic, limit, after: after && { epoch: after.epoch, offset: after.offset } };
    return this.#client.ask("history", params, { ...options, idempotent: true }, historyOf<T>);
  }

  /** Gives a message to all it is for. False if nobody asked for it. */
  deliver(message: TopicMessage): boolean {
    let wasAskedFor = false;
    for (const { readers } of this.#reachedBy(message.topic)) {
      wasAskedFor = true;
      for (const reader of readers) {
        reader.take(message);
      }
    }
    return wasAskedFor;
  }

  /** The connection was cut, and with it what it was subscribed to. */
  cut(): void {
    this.#connection += 1;
    for (const entry of this.#entries()) {
      entry.atHub = false;
      for (const reader of entry.readers) {
        reader.cut();
      }
    }
  }

  /** There is another connection: subscribes again. Topics come first: their replays fill holes of patterns as well. */
  up(): void {
    for (const entry of this.#entries()) {
      if (entry.readers.size > 0) {
        void this.#again(entry);
      }
    }
  }

  /** The connection ended for good, without `error` as it was meant to. */
  endAll(error?: DisconnectedError): void {
    for (const { readers } of this.#entries()) {
      for (const reader of readers) {
        reader.fail(error);
      }
    }
    this.#topics.clear();
    this.#patterns.clear();
  }

  /** The reader is among the readers before this resolves: its first events may come right behind the reply. */
  #begin<T>(topic: string, entry: Entry, { recover, history, signal, ...options }: SubscribeOptions): Promise<Subscription<T>> {
    const position = recover && { epoch: recover.epoch, offset: recover.offset };
    return this.#client.ask("subscribe", { topic, recover: position, history }, { signal }, (result) => {
      const reader = new EventSubscription<T>(topic, startOf(result), { ...options, signal, recover: position }, async () => {
        if (entry.readers.delete(reader)) {
          await this.#release(entry);
        }
      }, [...entry.readers][0]);
      entry.readers.add(reader);
      entry.atHub = true;
      return reader;
    });
  }

  /** Asks for an entry on a new connection, until there is an answer that stands. */
  async #again(entry: Entry): Promise<void> {
    const { topic, readers } = entry;
    const connection = this.#connection;
    const [first] = readers;
    // All readers of a pattern begin anew together; the first has had all that came since.
    const place = first?.place;
    while (connection === this.#connection && readers.size > 0) {
      entry.atHub = true;
      try {
        // oxlint-disable-next-line no-await-in-loop -- one attempt after the other
        await this.#client.ask("subscribe", { topic, recover: place ?? earliest(readers) }, {}, goOn, true);
        return;
      } catch (error) {
        if (error instanceof RpcError && error.retryable) {
          // oxlint-disable-next-line no-await-in-loop
          await this.#client.backOff(error.retryAfterMs ?? RETRY_MS);
        } else {
          this.#fail(entry, error);
          return;
        }
      }
    }

    function goOn(result: unknown): void {
      const start = startOf(result);
      for (const reader of readers) {
        reader.goOn(start, place);
      }
    }
  }

  /** The hub does not let this client subscribe again. A cut is no such thing, nor is the end of all. */
  #fail(entry: Entry, error: unknown): void {
    if (!(error instanceof DisconnectedError)) {
      entry.atHub = false;
      for (const reader of entry.readers) {
        entry.readers.delete(reader);
        reader.fail(error);
        void this.#release(entry);
      }
    }
  }

  /** One who wants it less. Resolves when the hub has been told, if it has to be; never rejects. */
  async #release(entry: Entry): Promise<void> {
    const { topic } = entry;
    entry.interest -= 1;
    if (entry.interest === 0 && entry.atHub) {
      entry.atHub = false;
      entry.leaving += 1;
      try {
        await this.#client.ask("unsubscribe", { topic }, {}, () => undefined, true);
      } catch (error) {
        if (!(error instanceof DisconnectedError)) {
          this.#client.warn(`unsubscribing from ${topic} failed: ${String(error)}`);
        }
      }
      entry.leaving -= 1;
    }
    if (entry.interest === 0 && entry.leaving === 0) {
      this.#mapOf(topic).delete(topic);
    }
  }

  *#entries(): Iterable<Entry> {
    yield* this.#topics.values();
    yield* this.#patterns.values();
  }

  *#reachedBy(topic: string): Iterable<Entry> {
    const entry = this.#topics.get(topic);
    if (entry !== undefined) {
      yield entry;
    }
    if (this.#patterns.size > 0) {
      const tokens = topic.split(".");
      for (const pattern of this.#patterns.values()) {
        if (matches(pattern.tokens, tokens)) {
          yield pattern;
        }
      }
    }
  }

  #entryOf(topic: string): Entry {
    const entries = this.#mapOf(topic);
    let entry = entries.get(topic);
    if (entry === undefined) {
      entry = { topic, tokens: topic.split("."), readers: new Set(), interest: 0, atHub: false, leaving: 0 };
      entries.set(topic, entry);
    }
    return entry;
  }

  #mapOf(topic: string): Map<string, Entry> {
    return isPattern(topic) ? this.#patterns : this.#topics;
  }
}

/** @throws TypeError unless it is a count, or not set. */
function checkMaxQueued(value = 1): void {
  if (!(Number.isInteger(value) && value > 0)) {
    throw new TypeError(`maxQueued has to be a positive integer, not ${value}`);
  }
}

/** Before this nobody has a hole; undefined for patterns, which have no position. */
function earliest(readers: ReadonlySet<EventSubscription<unknown>>): Position | undefined {
  let first: Position | undefined;
  for (const { head } of readers) {
    // Positions of different epochs cannot be compared: whoever is left out gets a gap.
    if (head !== undefined && (first === undefined || (head.epoch === first.epoch && head.offset < first.offset))) {
      first = head;
    }
  }
  return first;
}

/**
 * The reply to `subscribe`.
 *
 * @throws ProtocolError if it says nothing.
 */
function startOf(result: unknown): Start {
  const { epoch, offset, recovered, as_of: asOf, gaps = [] } = isFields(result) ? result : {};
  const isText = typeof epoch === "string";
  if (typeof offset === "number" && typeof recovered === "boolean" && (isText || epoch === null) && Array.isArray(gaps)) {
    const listed = gaps.map((gap: Fields) => gapIn(gap)) as unknown as readonly Gap[];
    return { position: isText ? { epoch, offset } : undefined, recovered, asOf: asOf as Position | undefined, gaps: listed };
  }
  throw new ProtocolError(`subscribe was answered with ${JSON.stringify(result)}`);
}
