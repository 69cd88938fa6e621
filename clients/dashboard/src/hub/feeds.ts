/**
 * What the hub says of itself, as it comes: the `system.` topics into signals that views read.
 */
import { batch, signal } from "@preact/signals";
import { isHubError, type Hub, type TopicMessage } from "trunkline";
import { NO_CONNECTIONS, withReport } from "../core/connections.ts";
import { grouped, type FailureGroup } from "../core/failures.ts";
import { incidents, MAX_INCIDENTS, mayServeOthers, type Incident } from "../core/incidents.ts";
import { interrupted, withStates, type Lanes } from "../core/lanes.ts";
import { methodsOf, type Method } from "../core/openrpc.ts";
import { endedCallOf, executorsOf, fieldsOf, healthOf, listOf, metricsOf, numberOf, pastOf } from "../core/reports.ts";
import type { EndedCall, Executor, Health, Metrics } from "../core/reports.ts";
import { MetricsRing } from "../core/ring.ts";
import { Skew } from "../core/skew.ts";
import asks from "./asks.json" with { type: "json" };
import { refuse } from "./link.ts";

const KEPT_CALLS = 500;
/** Executors tell of themselves once a second while they work, and more than `health.detailed` does. */
const QUIET_MS = 2_000;
const PAST = asks.first.past;

export const metrics = signal<Metrics | undefined>(undefined);
export const ring = new MetricsRing();
/** Changes when the past that the charts show does. */
export const pastVersion = signal(0);
export const health = signal<Health | undefined>(undefined);
export const uptimeSeconds = signal<number | undefined>(undefined);
export const executors = signal<readonly Executor[]>([]);
export const lanes = signal<Lanes>(new Map());
export const happened = signal<readonly Incident[]>([]);
/** Latest last. */
export const calls = signal<readonly EndedCall[]>([]);
/** Calls that ended and that the hub only counted. */
export const callsNotTold = signal(0);
export const failures = signal<readonly FailureGroup[]>([]);
export const connections = signal(NO_CONNECTIONS);
export const catalogue = signal<readonly Method[]>([]);
/** By topic: why the hub does not tell. */
export const refused = signal<Readonly<Record<string, string>>>({});

const skew = new Skew();
let received = 0;
let executorsToldAt = 0;
let pastIsKnown = false;
let catalogueIsOld = false;

type Take = (data: unknown, at: number) => void;

const FEEDS: Readonly<Record<string, Take>> = {
  "system.metrics": takeMetrics,
  "system.executors": (data, at) => {
    executorsToldAt = at;
    takeExecutors(executorsOf(data), at);
  },
  "system.health": (data) => {
    health.value = healthOf(data);
  },
  "system.requests": takeCalls,
  "system.connections": (data, at) => {
    connections.value = withReport(connections.peek(), data, at);
  },
};

/** Feeds the signals from a new connection until it is closed. */
export function feed(hub: Hub): void {
  startAnew();
  refused.value = {};
  // Metrics come last: what makes the page call itself live comes once it hears of everything else.
  for (const topic of asks.topics) {
    void follow(hub, topic);
  }
  const timer = setInterval(() => {
    if (!document.hidden && hub.connectionState === "connected") {
      void refreshHealth(hub);
    }
  }, asks.always.everyMs);
  const stop = hub.onConnectionState((state) => {
    if (state.state === "connected") {
      if (!state.resumed) {
        startAnew();
      }
      void refresh(hub);
    } else {
      lanes.value = interrupted(lanes.peek(), Date.now());
    }
  });
  void refresh(hub);
  void hub.closed.then(() => {
    clearInterval(timer);
    stop();
  });
}

/** What was true of another hub, or of this one before its restart, and is not any more. */
function startAnew(): void {
  skew.reset();
  connections.value = NO_CONNECTIONS;
}

async function follow(hub: Hub, topic: string): Promise<void> {
  try {
    for await (const message of await hub.subscribe(topic)) {
      batch(() => {
        receive(message, topic);
      });
      void renewCatalogue(hub);
    }
  } catch (error) {
    if (!refuse(error) && isHubError(error) && error.kind !== "disconnected") {
      refused.value = { ...refused.peek(), [topic]: error.message };
    }
  }
}

function receive(message: TopicMessage, topic: string): void {
  if (message.kind === "event") {
    FEEDS[topic]?.(message.data, skew.local(message.publishedAt, Date.now()));
  } else if (topic === "system.executors" || topic === "system.connections") {
    // Something has changed that this page was not told: what it knew is thrown away rather than shown.
    connections.value = topic === "system.connections" ? NO_CONNECTIONS : connections.peek();
  }
}

function takeMetrics(data: unknown, at: number): void {
  const next = metricsOf(data, at);
  if (ring.add(next)) {
    metrics.value = next;
  }
}

function takeExecutors(next: readonly Executor[], at: number): void {
  const before = executors.peek();
  const news = incidents(before, next, at);
  executors.value = next;
  catalogueIsOld ||= mayServeOthers(before, next);
  lanes.value = withStates(lanes.peek(), next, at);
  if (news.length > 0) {
    happened.value = [...news.toReversed(), ...happened.peek()].slice(0, MAX_INCIDENTS);
  }
}

function takeCalls(data: unknown, at: number): void {
  const fields = fieldsOf(data);
  const ended = listOf(fields.requests).map((item) => {
    received += 1;
    return endedCallOf(item, received);
  });
  calls.value = [...calls.peek(), ...ended].slice(-KEPT_CALLS);
  callsNotTold.value += numberOf(fields.dropped) ?? 0;
  failures.value = grouped(failures.peek(), ended, at);
}

async function refresh(hub: Hub): Promise<void> {
  await Promise.all([refreshHealth(hub), refreshCatalogue(hub)]);
}

async function refreshHealth(hub: Hub): Promise<void> {
  await asked(hub.call(asks.always.method), (result) => {
    health.value = healthOf(result);
    uptimeSeconds.value = numberOf(fieldsOf(result).uptime_seconds);
    if (Date.now() - executorsToldAt > QUIET_MS) {
      takeExecutors(executorsOf(result), Date.now());
    }
  });
  await renewCatalogue(hub);
}

/** Asks again what the hub serves where that may be something else by now; a hidden page asks once it is looked at. */
async function renewCatalogue(hub: Hub): Promise<void> {
  if (catalogueIsOld && !document.hidden && hub.connectionState === "connected") {
    await refreshCatalogue(hub);
  }
}

/** Asks again what the hub serves. */
export async function refreshCatalogue(hub: Hub): Promise<void> {
  catalogueIsOld = false;
  await asked(hub.call(asks.first.methods.method), (result) => {
    catalogue.value = methodsOf(result);
  });
  const tellsPast = catalogue.peek().some(({ name, params }) => name === PAST.method && params.some((p) => p.name === "series"));
  if (tellsPast && !pastIsKnown) {
    pastIsKnown = true;
    await asked(hub.call(PAST.method, PAST.params), (result) => {
      ring.addPast(pastOf(result, Date.now()));
      pastVersion.value += 1;
    });
  }
}

/** A question whose answer is only shown: a hub that does not answer is told of elsewhere. */
async function asked(answer: Promise<unknown>, take: (result: unknown) => void): Promise<void> {
  try {
    const result = await answer;
    batch(() => {
      take(result);
    });
  } catch (error) {
    if (!refuse(error) && isHubError(error) && error.kind === "rpc") {
      refused.value = { ...refused.peek(), health: error.message };
    }
  }
}
