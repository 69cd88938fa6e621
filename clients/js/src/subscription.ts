/**
 * Events of a topic, or of all topics a pattern reaches, for a reader.
 */
/// <reference lib="esnext.disposable" preserve="true" />
import { onAbort } from "./aborts.js";
import { safely } from "./callbacks.js";
import { located } from "./errors.js";
import { LossyQueue } from "./lossy-queue.js";
import type { EventMessage, Gap, Position, TopicMessage } from "./messages.js";
import type { SubscribeOptions } from "./options.js";
import { abortedError } from "./request.js";
import { gapOf, Sequence } from "./sequence.js";

/**
 * A running subscription: the events of each topic in order and without gaps, or a {@link Gap} in their place; tell
 * them apart by `kind`.
 *
 * It survives cuts: on the next connection it goes on where it was, or begins with a gap that says what is missing. The
 * loop ends when it is unsubscribed. If the connection ends for good, the loop gives what came, then ends if that was this
 * program's `close()`, and throws a `DisconnectedError` otherwise. Leaving the loop (`break`, `return`, `throw`) unsubscribes.
 *
 * There is one sequence of messages: two loops over the same subscription share it.
 */
export interface Subscription<T = unknown> extends AsyncIterable<TopicMessage<T>>, AsyncDisposable {
  /** The topic or pattern. */
  readonly topic: string;
  /** Whether the hub had everything after the position asked for. */
  readonly recovered: boolean;
  /**
   * How far the loop has come: moves with every event and gap it is given. To go on from there another time, subscribe
   * with `recover: position`. Patterns have none.
   */
  readonly position: Position | undefined;
  /**
   * Ends the subscription; the loop ends at once, and messages that wait for it are dropped. Resolves when the hub
   * has confirmed, or the connection is closed. Never rejects, and may be repeated.
   */
  unsubscribe(): Promise<void>;
}

/** Takes an event; what it throws, or rejects with, surfaces on its own, and the next event comes all the same. */
export type Listener<T = unknown> = (data: T, event: EventMessage<T>) => unknown;

/** Gives each event to a listener, one after the other. Gaps are for `onGap`; an end that nobody asked for surfaces on its own. */
export async function listenTo<T>(subscription: Subscription<T>, listener: Listener<T>): Promise<void> {
  try {
    for await (const message of subscription) {
      if (message.kind === "event") {
        try {
          await listener(message.data, message);
        } catch (error) {
          reportError(error);
        }
      }
    }
  } catch (error) {
    reportError(error);
  }
}

function reportError(error: unknown): void {
  safely(() => {
    throw error;
  });
}

/** What the hub answered: `position` is where delivery starts, if it is known. */
export interface Start {
  readonly position: Position | undefined;
  readonly recovered: boolean;
  /** Of a pattern: what to recover from another time. */
  readonly asOf: Position | undefined;
  /** Of a pattern that was recovered: what is missing of its topics. */
  readonly gaps: readonly Gap[];
}

/** How far a pattern has come: all before `epoch`, `offset`, and of its topics what came since. */
export interface PatternPlace extends Position {
  readonly topics: Readonly<Record<string, Position>>;
}

/** The receiving side of a {@link Subscription}. */
export class EventSubscription<T> implements Subscription<T>, AsyncIterator<TopicMessage<T>, undefined> {
  readonly topic: string;
  readonly recovered: boolean;
  readonly #options: SubscribeOptions;
  readonly #queue: LossyQueue;
  readonly #sequence: Sequence;
  readonly #leave: () => Promise<void>;
  readonly #unwatch: () => void;
  #asOf: Position | undefined;
  #left: Promise<void> | undefined;
  #position: Position | undefined;

  /** `leave` is called once, when the reader has had enough; `beside` reads the same already. */
  constructor(topic: string, start: Start, options: SubscribeOptions, leave: () => Promise<void>, beside?: EventSubscription<unknown>) {
    this.topic = topic;
    this.recovered = start.recovered;
    this.#options = options;
    this.#leave = leave;
    this.#queue = new LossyQueue(options.maxQueued ?? DEFAULT_MAX_QUEUED, topic);
    this.#sequence = new Sequence((message) => {
      this.#queue.push(message);
    });
    this.#unwatch = onAbort(options.signal, () => {
      this.#aborted();
    });
    this.#asOf = start.asOf;
    if (start.asOf === undefined && beside !== undefined) {
      this.#asOf = beside.#asOf;
      this.#sequence.follow(beside.#sequence);
    }
    if (start.position !== undefined) {
      this.#position = options.recover ?? start.position;
      this.#begin(options.recover, start.position, start.recovered);
    }
  }

  /** What the connection has brought so far, read or not. Patterns have none. */
  get head(): Position | undefined {
    return this.#sequence.headOf(this.topic);
  }

  get position(): Position | undefined {
    return this.#position;
  }

  /** Takes what the connection got for this topic; passes on what is new to this subscription. */
  take(message: TopicMessage): void {
    this.#sequence.take(message);
  }

  /** The connection was cut: a topic is asked for again on the next one, from the head on. */
  cut(): void {
    if (this.#position !== undefined) {
      this.#sequence.cut();
    }
  }

  /** What this pattern is recovered from; undefined if not everything is known any more. */
  get place(): PatternPlace | undefined {
    const topics = this.#sequence.heads;
    return this.#asOf && topics && { ...this.#asOf, topics };
  }

  /** The hub was asked again: for a topic from the head of this subscription or before it, for a pattern from `asked`. */
  goOn({ position, recovered, asOf, gaps }: Start, asked: PatternPlace | undefined): void {
    const { head } = this;
    if (position === undefined) {
      this.#asOf = asOf;
      if (asked === undefined || !recovered) {
        // Nobody can say which events are missing.
        const reason = asked?.epoch === asOf?.epoch ? "history" : "epoch";
        const missing = gapOf(this.topic, { epoch: "", from: 0, to: 0 }, asked && asOf ? reason : "disconnected");
        this.#queue.push({ ...missing, count: undefined });
        this.#sequence.isWhole = true;
      }
      for (const gap of gaps) {
        this.#sequence.take(gap, true);
      }
    } else if (head !== undefined) {
      this.#begin(head, position, recovered);
    }
  }

  /** The connection ended for good, or the hub does not let it subscribe again. Without `error` the loop just ends. */
  fail(error?: unknown): void {
    this.#unwatch();
    if (error !== undefined) {
      this.#queue.fail(error);
    }
    this.#queue.end();
  }

  unsubscribe(): Promise<void> {
    this.#queue.stop();
    return this.#end();
  }

  /** For `await using`. Where the platform lacks the symbol, this is a method nobody calls. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.unsubscribe();
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  async next(): Promise<IteratorResult<TopicMessage<T>, undefined>> {
    try {
      const result = (await this.#queue.next()) as IteratorResult<TopicMessage<T>, undefined>;
      if (result.done !== true) {
        this.#give(result.value);
      }
      return result;
    } catch (error) {
      throw located(error);
    }
  }

  /** Called by `for await` when its body is left early. It does not wait for the hub. */
  return(): Promise<IteratorResult<TopicMessage<T>, undefined>> {
    void this.unsubscribe();
    return Promise.resolve({ done: true, value: undefined });
  }

  /** Delivery starts at `start`, or, if the hub had all that came after `from`, with that. */
  #begin(from: Position | undefined, start: Position, recovered: boolean): void {
    const { topic } = this;
    if (from !== undefined && !recovered) {
      // The hub says the same a little later, but only one subscription of a topic is meant: see sequence.ts.
      const { epoch, offset: to } = start;
      const follows = from.epoch === epoch && from.offset <= to;
      const gap = { epoch, from: follows ? from.offset + 1 : 1, to };
      if (!follows || from.offset < to) {
        this.#queue.push(gapOf(topic, gap, follows ? "history" : "epoch"));
      }
    }
    this.#sequence.start(topic, recovered && from !== undefined ? from : start, recovered);
  }

  /** Notes what the reader is given. */
  #give(message: TopicMessage): void {
    if (this.#position !== undefined) {
      this.#position = { epoch: message.epoch, offset: message.kind === "event" ? message.offset : message.to };
    }
    if (message.kind === "gap") {
      try {
        this.#options.onGap?.(message);
      } catch (error) {
        // A loop whose `next` fails does not call `return`.
        void this.unsubscribe();
        throw error;
      }
    }
  }

  #aborted(): void {
    const { signal } = this.#options;
    if (signal !== undefined) {
      this.#queue.stop(abortedError(signal, false));
      void this.#end();
    }
  }

  #end(): Promise<void> {
    this.#unwatch();
    this.#left ??= this.#leave();
    return this.#left;
  }
}

const DEFAULT_MAX_QUEUED = 1_024;
