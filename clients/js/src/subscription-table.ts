/**
 * The subscriptions of a connection: what the hub was asked for, and who reads it.
 */
import { DisconnectedError, ProtocolError, TrunklineError } from "./errors.js";
import type { Params, TopicMessage } from "./messages.js";
import type { CallOptions, SubscribeOptions } from "./options.js";
import type { Sink } from "./request.js";
import { EventSubscription, type Start, type Subscription } from "./subscription.js";
import { isPattern, matches } from "./topics.js";

/** Sends a request; its outcome goes to the sink. */
type Ask = (method: string, params: Params, options: CallOptions, sink: Sink) => void;

/** A topic or pattern the hub was asked for. The hub counts it once, so it is left when nobody wants it any more. */
interface Entry {
  readonly tokens: readonly string[];
  readonly readers: Set<EventSubscription<unknown>>;
  /** Readers, and subscriptions the hub has not answered yet. */
  wanted: number;
  /** Whether the hub may be delivering it. */
  atHub: boolean;
  /** `unsubscribe` requests in flight; until they are answered, events may come for nobody. */
  leaving: number;
}

export class SubscriptionTable {
  readonly #warn: (message: string) => void;
  readonly #ask: Ask;
  readonly #topics = new Map<string, Entry>();
  readonly #patterns = new Map<string, Entry>();

  constructor(warn: (message: string) => void, ask: Ask) {
    this.#warn = warn;
    this.#ask = ask;
  }

  async subscribe<T>(topic: string, options: SubscribeOptions): Promise<Subscription<T>> {
    if (typeof topic !== "string") {
      throw new TypeError("topic has to be a string");
    }
    checkMaxQueued(options.maxQueued);
    const entry = this.#entryOf(topic);
    entry.wanted += 1;
    try {
      return await this.#begin<T>(topic, entry, options);
    } catch (error) {
      // Of a request that was given up nobody knows whether the hub has dealt with it.
      entry.atHub ||= error instanceof TrunklineError && error.maybeExecuted;
      void this.#release(topic, entry);
      throw error;
    }
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

  /** The connection ended. */
  endAll(error: DisconnectedError): void {
    for (const entries of [this.#topics, this.#patterns]) {
      for (const { readers } of entries.values()) {
        for (const reader of readers) {
          reader.fail(error);
        }
      }
      entries.clear();
    }
  }

  /** The reader is among the readers before this resolves: its first events may come right behind the reply. */
  #begin<T>(topic: string, entry: Entry, { recover, signal, ...options }: SubscribeOptions): Promise<Subscription<T>> {
    const position = recover && { epoch: recover.epoch, offset: recover.offset };
    return this.#request("subscribe", { topic, recover: position }, { signal }, (result) => {
      const start = startOf(result);
      if (start === undefined) {
        throw new ProtocolError(`subscribe was answered with ${JSON.stringify(result)}`);
      }
      const reader = new EventSubscription<T>(topic, start, { ...options, signal, recover: position }, () => {
        entry.readers.delete(reader);
        return this.#release(topic, entry);
      });
      entry.readers.add(reader);
      entry.atHub = true;
      return reader;
    });
  }

  /** One who wants it less. Resolves when the hub has been told, if it has to be; never rejects. */
  async #release(topic: string, entry: Entry): Promise<void> {
    entry.wanted -= 1;
    if (entry.wanted === 0 && entry.atHub) {
      entry.atHub = false;
      entry.leaving += 1;
      try {
        await this.#request("unsubscribe", { topic }, {}, () => undefined);
      } catch (error) {
        if (!(error instanceof DisconnectedError)) {
          this.#warn(`unsubscribing from ${topic} failed: ${String(error)}`);
        }
      }
      entry.leaving -= 1;
    }
    if (entry.wanted === 0 && entry.leaving === 0) {
      this.#mapOf(topic).delete(topic);
    }
  }

  /** `read` looks at the result the moment it arrives; what it throws rejects. */
  #request<R>(method: string, params: Params, options: CallOptions, read: (result: unknown) => R): Promise<R> {
    return new Promise((resolve, reject) => {
      const settle = (result: unknown): void => {
        try {
          resolve(read(result));
        } catch (error) {
          reject(error);
        }
      };
      this.#ask(method, params, options, { resolve: settle, reject, chunk: () => undefined });
    });
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
      entry = { tokens: topic.split("."), readers: new Set(), wanted: 0, atHub: false, leaving: 0 };
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

/** The reply to `subscribe`; undefined if it says nothing. */
function startOf(result: unknown): Start | undefined {
  const { epoch, offset, recovered } = (result ?? {}) as Readonly<Record<string, unknown>>;
  if (typeof offset !== "number" || typeof recovered !== "boolean") {
    return undefined;
  }
  if (typeof epoch === "string") {
    return { position: { epoch, offset }, recovered };
  }
  return epoch === null ? { position: undefined, recovered } : undefined;
}
