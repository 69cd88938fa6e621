/**
 * The life of the connection to the hub: sessions, silence, cuts, and coming back. Wires come and go.
 */
import { Acks } from "./acks.js";
import { decode, isFields } from "./decode.js";
import { ConnectError, DisconnectedError, isNotNow } from "./errors.js";
import type { Codec, Packed } from "./codec.js";
import type { CloseInfo } from "./hub.js";
import { Liveness, type LivenessUser } from "./liveness.js";
import type { Incoming, SessionEnd } from "./messages.js";
import { Outbox, type Frame } from "./outbox.js";
import { MESSAGE_TOO_BIG, SizeLimit, type SizeUser } from "./oversize.js";
import { isFinal, Redial, type RedialUser } from "./redial.js";
import { Session } from "./session.js";
import type { Settings } from "./settings.js";
import { States } from "./states.js";
import { Wire, type WireUser } from "./wire.js";

/** What a link tells the client. */
export interface LinkUser extends SizeUser {
  /** A message came; with a session each does once, and in order. */
  receive(message: Incoming): void;
  /** The socket is gone. */
  cut(end: CloseInfo): void;
  /** What was sent and has no outcome will have none; requests that are `unread` certainly were not acted on. */
  lost(end: CloseInfo, sessionEnd: SessionEnd | undefined, unread: ReadonlySet<number>): void;
  /** There is a connection again; what is sent now goes ahead of what waits. */
  up(resumed: boolean): void;
  /** Closed for good; `isOwn`: by this client's `close()`. */
  ended(end: CloseInfo, isOwn: boolean): void;
}

/** The id of the link's own requests; those of callers count from 1. */
const OWN_ID = 0;

/** The violation of a rule: a session that has seen one is never gone on with. */
const PROTOCOL_ERROR = 1002;

export class Link implements WireUser, LivenessUser, RedialUser {
  readonly closed: Promise<CloseInfo>;
  readonly states = new States();
  readonly codec: Codec;
  /** Set once it is closed for good. */
  end: CloseInfo | undefined;
  readonly size = new SizeLimit();
  /** Why the last attempt to connect failed; undefined while there is a connection. */
  failure: ConnectError | undefined;
  /** Another number where it may be another hub that is talked to. */
  hub = 1;
  /** Which memory of idempotency keys the hub has; undefined where it told none. */
  epoch: string | undefined;
  readonly #settings: Settings;
  readonly #user: LinkUser;
  readonly #outbox: Outbox;
  readonly #liveness: Liveness;
  readonly #acks: Acks;
  /** Undefined once no other connection follows this one. */
  #redial: Redial | undefined;
  /** Until when the first connection is tried for, by `performance.now()`. */
  #until = 0;
  #wire: Wire | undefined;
  #session: Session | undefined;
  /** Whether the hub is being asked for a session. */
  #isAsking = false;
  /** Whether the hub may have given up the session. */
  #isExpired = false;
  #expiryTimer: ReturnType<typeof setTimeout> | undefined;
  /** Why there is no connection. */
  #cause: CloseInfo = { code: 1006, reason: "" };
  #settle!: { closed(end: CloseInfo): void; started(): void; notOpened(error: ConnectError): void };

  constructor(settings: Settings, user: LinkUser) {
    this.#settings = settings;
    this.codec = settings.codec;
    this.#user = user;
    this.#outbox = new Outbox(settings.maxQueued, settings.maxQueuedBytes);
    this.closed = new Promise((closed) => {
      this.#settle = { closed, started: () => undefined, notOpened: () => undefined };
    });
    this.#acks = new Acks(this.#say);
    this.#liveness = new Liveness(settings, this);
  }

  /** Tries for so long to make the first connection; rejects with a `ConnectError`. */
  start(waitMs: number): Promise<void> {
    this.#until = performance.now() + waitMs;
    this.#redial = new Redial(this.#settings.reconnect, this);
    return new Promise((started, notOpened) => {
      this.#settle = { ...this.#settle, started, notOpened };
      this.dial();
    });
  }

  get isOpen(): boolean {
    return this.#wire?.isOpen === true;
  }

  /** Sends a frame, or lets it wait. */
  send(frame: Frame, isLate = false): void {
    if (this.isOpen) {
      if (isLate) {
        // It may have been made for another hub.
        try {
          this.size.check(frame.packed);
        } catch (error) {
          frame.refused?.(error);
          return;
        }
      }
      frame.onWrite?.(isLate);
      const { packed, isNumbered } = frame;
      this.#wire?.send((isNumbered ? this.#session?.number(packed) : undefined) ?? packed);
    } else {
      this.#outbox.add(frame);
    }
  }

  /** Lets a frame wait for the next connection. False if there will be none, or there is no room. */
  hold(frame: Frame): boolean {
    const waits = this.#redial !== undefined && this.#outbox.limitFor(frame.packed.length, this.#session) === undefined;
    if (waits) {
      this.#outbox.add(frame);
    }
    return waits;
  }

  /** Takes back a frame that waits: it was never written. */
  withdraw(frame: Frame): void {
    this.#outbox.delete(frame);
  }

  /**
   * Asks for room for one more message of the caller's.
   *
   * @throws DisconnectedError if the link is closed, or so much waits already that this is refused.
   * @throws RpcError if the hub would not take it.
   */
  admit(packed: Packed): void {
    if (this.end !== undefined) {
      throw new DisconnectedError(this.end, false);
    }
    this.size.check(packed);
    const limit = this.isOpen ? undefined : this.#outbox.limitFor(packed.length, this.#session);
    if (limit !== undefined) {
      throw new DisconnectedError(this.#cause, false, `${limit} is reached`);
    }
  }

  /** Closes for good; resolves when the socket is closed, or a second later. */
  async close(end: CloseInfo): Promise<void> {
    if (this.end === undefined) {
      const closed = this.#hangUp(end);
      this.#finish(end, true);
      await closed;
      this.#settle.closed(end);
    }
    await this.closed;
  }

  /** Sends a request of the link's own, past everything else. */
  #tell(method: string, params?: object): void {
    this.#say({ jsonrpc: "2.0", id: OWN_ID, method, params });
  }

  readonly #say = (message: object): void => {
    this.#wire?.send(this.codec.encode(message));
  };

  /** Ends the session at the hub, and the connection. */
  async #hangUp(end: CloseInfo): Promise<void> {
    const wire = this.#wire;
    if (this.#session !== undefined && this.isOpen) {
      this.#tell("session.close");
    }
    this.#wire = undefined;
    await wire?.close(end);
  }

  // --- coming ---

  dial(): void {
    this.#wire = new Wire(this.#settings, this);
  }

  opened(): void {
    const session = this.#session;
    if (this.#settings.session) {
      this.#isAsking = true;
      this.#tell("session.open", session && { resume: { session: session.id, received: session.takeAck() } });
    } else {
      this.#up(false);
    }
  }

  /**
   * The hub answered `session.open`.
   *
   * @throws RangeError if it has other frames than it can have.
   */
  #answered(message: Incoming): void {
    if (message.kind === "error" && isNotNow(message.error)) {
      // Not now: nothing was opened, and the session may still go on.
      this.notOpened(new ConnectError(message.error.message, message), { code: 1013, reason: message.error.message });
      return;
    }
    const opened = message.kind === "result" && isFields(message.result) ? message.result : {};
    const { session: id, ttl_ms: ttlMs, resumed, received, reason, idempotency_epoch: epoch } = opened;
    this.epoch = typeof epoch === "string" ? epoch : undefined;
    if (resumed === true && this.#session !== undefined) {
      this.#up(true, this.#session.resume(received as number));
      return;
    }
    this.#lose(reason as SessionEnd | undefined);
    if (typeof id === "string" && typeof ttlMs === "number") {
      this.#session = new Session(id, ttlMs, this.codec);
    } else {
      this.#settings.warn(`no session: ${JSON.stringify(message)}`);
    }
    this.#up(false);
  }

  #up(resumed: boolean, frames: readonly Packed[] = []): void {
    const wire = this.#wire;
    clearTimeout(this.#expiryTimer);
    this.#isExpired = false;
    this.#isAsking = false;
    if (this.#settings.reconnect === undefined) {
      this.#redial?.stop();
      this.#redial = undefined;
    }
    this.#redial?.reset();
    this.failure = undefined;
    this.#liveness.start();
    wire?.done();
    for (const frame of frames) {
      wire?.send(frame);
    }
    this.#user.up(resumed);
    for (const frame of this.#outbox.takeAll()) {
      this.send(frame, true);
    }
    this.states.tell({ state: "connected", resumed });
    this.#settle.started();
  }

  // --- what comes ---

  message(frame: Packed): void {
    this.#liveness.heard();
    const { message, seq } = decode(frame, this.codec.parse);
    let isForUser = false;
    try {
      isForUser = this.#take(message, seq, frame.length);
    } catch (error) {
      const end = { code: PROTOCOL_ERROR, reason: (error as Error).message };
      void this.#hangUp(end);
      this.cutOff(end);
    }
    if (isForUser) {
      this.#user.receive(message);
    }
  }

  /**
   * Deals with what concerns the link; whether the message is for its user, too.
   *
   * @throws RangeError if it breaks a rule of sessions.
   */
  #take(message: Incoming, seq: number | undefined, units: number): boolean {
    const session = this.#session;
    if (message.kind === "ack") {
      if (session !== undefined) {
        session.acknowledge(message.received);
        session.isEnding = message.isLast;
      }
      return false;
    }
    if ("id" in message && message.id === OWN_ID) {
      if (message.kind === "result") {
        this.size.told(message.result);
      }
      if (this.#isAsking) {
        this.#answered(message);
      }
      return false;
    }
    if (seq === undefined || session === undefined) {
      return true;
    }
    const isNew = session.receive(seq, units);
    this.#acks.came(session);
    return isNew;
  }

  ping(): void {
    this.#tell("rpc.ping");
  }

  awake(): void {
    if (this.isOpen) {
      this.#liveness.probe();
    }
  }

  // --- going ---

  dead(): void {
    this.cutOff({ code: 1006, reason: "the hub is silent" });
  }

  cutOff(end: CloseInfo): void {
    this.#drop(end);
    if (end.code === MESSAGE_TOO_BIG) {
      this.size.takeOut(this.#session, this.#user);
    }
    this.#user.cut(end);
    if (this.#session === undefined || end.code === PROTOCOL_ERROR) {
      this.#lose();
    } else {
      this.#expiryTimer = setTimeout(() => {
        this.#expire(true);
      }, this.#session.ttlMs);
    }
    this.#comeBack(end);
  }

  notOpened(error: ConnectError, end: CloseInfo): void {
    this.failure = error;
    this.#drop(end);
    this.#expire();
    this.#comeBack(end, error);
  }

  /** Waits for the next attempt, unless there is none. */
  #comeBack(cause: CloseInfo, error?: ConnectError): void {
    const { current } = this.states;
    const leftMs = current === "connecting" ? this.#until - performance.now() : Infinity;
    if (this.#redial === undefined || leftMs <= 0 || isFinal(cause, error, this.#settings)) {
      this.#finish(cause, false, error);
      this.#settle.closed(cause);
    } else {
      const delayMs = this.#redial.later(error?.retryAfterMs, leftMs);
      const state = current === "connecting" ? current : "reconnecting";
      this.states.tell({ state, attempt: this.#redial.attempts, delayMs, cause });
    }
  }

  /** Nobody waits longer for the hub than the hub for us; but while it is being asked, its answer decides. */
  #expire(isDue = false): void {
    this.#isExpired ||= isDue;
    if (this.#isExpired && !this.#isAsking && this.#session !== undefined) {
      this.#lose();
    }
  }

  #lose(sessionEnd?: SessionEnd): void {
    const unread = this.#session?.unread ?? new Set();
    this.hub += 1;
    this.#session = undefined;
    this.#outbox.loseSession();
    this.#user.lost(this.#cause, sessionEnd, unread);
  }

  /** Lets go of the socket, if there is one. */
  #drop(end: CloseInfo): void {
    this.#cause = end;
    this.#isAsking = false;
    this.#liveness.stop();
    this.#acks.stop();
    this.#wire?.leave();
    this.#wire = undefined;
  }

  #finish(end: CloseInfo, isOwn = false, error = new ConnectError("closed")): void {
    this.end = end;
    this.#drop(end);
    clearTimeout(this.#expiryTimer);
    this.#redial?.stop();
    this.#lose();
    this.#user.ended(end, isOwn);
    this.#outbox.takeAll();
    this.states.tell({ state: "closed", ...end });
    this.#settle.notOpened(error);
  }
}
