// What workload.py does, with the JavaScript client: the same operations, written down in the same way (history.py).
//
//   node workload.mjs '{"name", "seed", "served", "history", "ledger", "url", "reconnect"}'
//
// Told by lines of JSON on standard input ({"do": "settle" | "finish", "within", "last"?}); answers "started", "settled",
// "finished".
import { openSync, writeSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import { connect, isHubError } from "../../../clients/js/dist/index.js";

const LANES = 6;
const PATIENT_MS = 10_000;
const HASTY_MS = [60, 600];
const LARGE = 60_000;
const TOPICS = ["recorded.a", "recorded.b", "recorded.c"];
const PATTERN = "recorded.*";

const part = JSON.parse(process.argv[2] ?? "{}");
const history = openSync(join(part.history, `${part.name}.jsonl`), "a");
const ledger = openSync(part.ledger, "a");
const now = () => Number(process.hrtime.bigint()) / 1e9;

let count = 0;
let isStopping = false;
let last;
const knowsLast = resolvers();

function resolvers() {
  let resolve;
  const promise = new Promise((done) => {
    resolve = done;
  });
  return { promise, resolve };
}

// --- what is written ---

function write(file, line) {
  writeSync(file, `${JSON.stringify(line)}\n`); // one system call to a file opened for appending: whole lines
}

function note(op, kind, members) {
  write(history, { time: now(), process: part.name, op, kind, ...members });
}

function nextOp() {
  count += 1;
  return `${part.name}:${count}`;
}

/** Waits for the end of an operation, and writes it down. */
async function outcome(op, doing, members = () => ({})) {
  let line;
  try {
    const value = await doing();
    line = ["ok", { value, ...members() }];
  } catch (error) {
    line = failure(error, members());
  }
  note(op, ...line);
}

function failure(error, members) {
  const { code, maybeExecuted, said } = described(error);
  const more = { code, message: String(error?.message ?? error).slice(0, 200), maybe_executed: maybeExecuted };
  return [maybeExecuted ? "info" : "fail", { ...members, ...more, ...said }];
}

function described(error) {
  if (error === LEFT) {
    return { code: "cancelled", maybeExecuted: true };
  }
  if (!isHubError(error)) {
    return { code: String(error?.name), maybeExecuted: true };
  }
  const { kind, maybeExecuted } = error;
  const code = kind === "disconnected" || kind === "cancelled" ? kind : (error.code ?? kind);
  const chunks = error.data?.chunks;
  return { code, maybeExecuted, said: typeof chunks === "number" ? { sent_chunks: chunks } : {} };
}

const LEFT = new Error("left before the end");

// --- chance: the same for the same seed ---

function randomFrom(text) {
  let state = 2166136261;
  for (const letter of text) {
    state = Math.imul(state ^ letter.codePointAt(0), 16777619);
  }
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
  };
}

const between = (random, from, to) => from + random() * (to - from);
const whole = (random, from, to) => Math.floor(between(random, from, to + 1));
const choice = (random, values) => values[whole(random, 0, values.length - 1)];

// --- calls ---

async function call(method, value, seconds, { rerun = [], key, ...options } = {}) {
  const op = nextOp();
  const work = key ?? op;
  note(op, "invoke", { what: "call", method, work, key, rerun, expect: value });
  const params = { work, value, seconds };
  await outcome(op, () => hub.call(method, params, { timeoutMs: PATIENT_MS, idempotencyKey: key, ...options }));
}

function echo(random, seconds, { again = random() < 0.3, ...options } = {}) {
  const rerun = [...(again ? ["hub"] : []), ...(options.idempotent ? ["client"] : [])];
  const value = whole(random, 0, 1e9);
  return call(again ? "recorded.echo.again" : "recorded.echo", value, seconds, { rerun, ...options });
}

async function cancelled(random) {
  const controller = new AbortController();
  const calling = echo(random, between(random, 0.2, 0.5), { signal: controller.signal });
  await sleep(between(random, 0, 300));
  controller.abort();
  await calling;
}

async function keyed(random) {
  const key = nextOp();
  const again = random() < 0.3;
  const value = whole(random, 0, 1e9);
  const seconds = between(random, 0, 0.5);
  const ask = () =>
    call(again ? "recorded.echo.again" : "recorded.echo", value, seconds, { rerun: again ? ["hub"] : [], key });
  const asked = whole(random, 1, 3);
  if (random() < 0.5) {
    await Promise.all(Array.from({ length: asked }, ask));
    return;
  }
  for (let number = 0; number < asked; number += 1) {
    await ask();
  }
}

function askClients(random) {
  return call(`served.echo.${choice(random, part.served)}`, whole(random, 0, 1e9), between(random, 0, 0.3));
}

async function summed(random) {
  const op = nextOp();
  const numbers = Array.from({ length: whole(random, 0, 150) }, () => whole(random, 0, 999));
  const again = random() < 0.3;
  const method = again ? "recorded.sum.again" : "recorded.sum";
  const expect = numbers.reduce((sum, number) => sum + number, 0);
  note(op, "invoke", { what: "input", method, work: op, rerun: again ? ["hub"] : [], expect });
  await outcome(op, () => hub.call(method, { work: op }, { input: numbers, timeoutMs: PATIENT_MS }));
}

// --- streams ---

async function stream(method, n, interval, { rerun = [], until } = {}) {
  const op = nextOp();
  const chunks = [];
  note(op, "invoke", { what: "stream", method, work: op, rerun, expect: n });
  const read = async () => {
    const reading = hub.stream(method, { work: op, n, interval }, { timeoutMs: PATIENT_MS });
    reading.result.catch(() => undefined); // the loop says the same
    for await (const chunk of reading) {
      chunks.push([chunk.index, chunk.data]);
      if (chunks.length === until) {
        throw LEFT;
      }
    }
    return await reading.result;
  };
  await outcome(op, read, () => ({ chunks }));
}

function streamed(random) {
  const again = random() < 0.3;
  const options = { rerun: again ? ["hub"] : [] };
  const method = again ? "recorded.count.again" : "recorded.count";
  return stream(method, whole(random, 0, 80), between(random, 0, 0.02), options);
}

function streamedByClients(random) {
  return stream(`served.count.${choice(random, part.served)}`, whole(random, 0, 60), between(random, 0, 0.02));
}

// --- events ---

async function publish(topic, key) {
  const op = nextOp();
  const work = key ?? op;
  note(op, "invoke", { what: "publish", topic, work, key });
  let stored = {};
  await outcome(
    op,
    async () => {
      const { epoch, offset } = await hub.publish(topic, work, { idempotencyKey: key });
      stored = { epoch, offset };
    },
    () => stored,
  );
}

async function published(random) {
  const topic = choice(random, TOPICS);
  if (random() < 0.6) {
    await publish(topic);
    return;
  }
  const key = nextOp();
  for (let times = whole(random, 1, 2); times > 0; times -= 1) {
    await publish(topic, key);
  }
}

async function burst(random) {
  const topic = choice(random, TOPICS);
  await Promise.all(Array.from({ length: whole(random, 5, 30) }, () => publish(topic)));
}

async function read(topic, begun) {
  const op = nextOp();
  note(op, "invoke", { what: "subscribe", topic });
  await outcome(op, () => readUntilTheLast(op, topic, begun));
}

async function readUntilTheLast(op, topic, begun) {
  const events = await hub.subscribe(topic);
  note(op, "begun", { epoch: events.position?.epoch, offset: events.position?.offset });
  begun();
  const heard = new Map();
  const isDone = () =>
    last !== undefined &&
    Object.entries(last).every(([name, work]) => (topic !== name && topic !== PATTERN) || heard.get(name) === work);
  void knowsLast.promise.then(() => isDone() && events.return?.());
  for await (const item of events) {
    const { epoch } = item;
    if (item.kind === "event") {
      note(op, "event", { topic: item.topic, epoch, offset: item.offset, value: item.data });
      heard.set(item.topic, item.data);
    } else {
      note(op, "gap", { topic: item.topic, epoch, offset: item.from, until: item.to, reason: item.reason });
    }
    if (isDone()) {
      return;
    }
  }
}

// --- served ---

function executed(work) {
  write(ledger, { time: now(), work, life: 0, by: part.name });
}

async function serveEcho({ work, value, seconds }) {
  executed(work);
  await sleep(seconds * 1000);
  return value;
}

async function* serveCount({ work, n, interval }) {
  executed(work);
  for (let index = 0; index < n; index += 1) {
    yield { work, index };
    await sleep(interval * 1000);
  }
  return { work, chunks: n };
}

// --- its life ---

const DOINGS = [
  [(random) => echo(random, 0), 5],
  [(random) => call("recorded.echo", "x".repeat(whole(random, 0, LARGE)), 0), 1],
  [burst, 1],
  [(random) => echo(random, between(random, 0.1, 1)), 3],
  [keyed, 3],
  [(random) => echo(random, between(random, 0, 0.5), { again: true, idempotent: true }), 2],
  [cancelled, 1],
  [(random) => echo(random, between(random, 0, 0.5), { timeoutMs: choice(random, HASTY_MS) }), 2],
  [streamed, 3],
  [(random) => stream("recorded.count", 60, 0.01, { until: whole(random, 1, 20) }), 1],
  [summed, 2],
  [published, 4],
  [askClients, 3],
  [streamedByClients, 2],
].flatMap(([doing, weight]) => Array.from({ length: weight }, () => doing));

async function lane(random) {
  while (!isStopping) {
    await choice(random, DOINGS)(random);
    await sleep(between(random, 0, 100));
  }
}

function noteState(change) {
  const { code, reason = "" } = change.cause ?? change;
  note("", "state", { value: change.state, resumed: change.resumed, code, message: reason.slice(0, 200) });
}

async function start(random) {
  hub.onConnectionState(noteState);
  await hub.register(`served.echo.${part.name}`, serveEcho);
  await hub.register(`served.count.${part.name}`, serveCount, { streaming: true });
  const topics = TOPICS.filter((_, index) => index !== whole(random, 0, 2));
  const readers = [];
  for (const topic of [...topics, PATTERN]) {
    const begun = resolvers();
    readers.push(read(topic, begun.resolve));
    await begun.promise;
  }
  return readers;
}

function within(seconds, work) {
  const timer = new AbortController();
  const limit = sleep(seconds * 1000, undefined, { signal: timer.signal }).catch(() => undefined);
  return Promise.race([Promise.all(work).finally(() => timer.abort()), limit]);
}

const random = randomFrom(`${part.name} of ${part.seed}`);
const hub = await connect(part.url, { reconnect: part.reconnect });
const readers = await start(random);
const lanes = Array.from({ length: LANES }, (_, number) => lane(randomFrom(`lane ${number}, ${random()}`)));
console.log("started");
for await (const text of createInterface({ input: process.stdin })) {
  const order = JSON.parse(text);
  if (order.do === "settle") {
    isStopping = true;
    await within(order.within, lanes);
    console.log("settled");
  } else {
    last = order.last;
    knowsLast.resolve();
    await within(order.within, readers);
    console.log("finished");
    break;
  }
}
// What is still open gets no line: that is what the checker looks for.
process.exit(0);
