/**
 * Everything at once, over connections that are cut at random places: in the middle of frames, handshakes and resumes.
 */
import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { connect, type Hub, type Subscription } from "../src/index.js";
import { dice } from "./support/dice.js";
import { Proxy } from "./support/proxy.js";
import { SKIP_WITHOUT_LAB, startHub, type RealHub } from "./support/real-hub.js";
import { Watched } from "./support/resilient.js";
import { pause, within } from "./support/time.js";

const SEEDS = (process.env.TEST_CHAOS_SEEDS ?? "1,2").split(",").map(Number);
const ROUNDS = 12;

async function* items(n: number): AsyncGenerator<number> {
  for (let item = 0; item < n; item += 1) {
    yield item;
    if (item % 16 === 0) {
      await pause(1);
    }
  }
}

async function* countdown({ n }: { n: number }): AsyncGenerator<number, object> {
  for (let left = n; left > 0; left -= 1) {
    yield left;
    if (left % 50 === 0) {
      await pause(1);
    }
  }
  return { from: n };
}

/** Reads events until the last one; gives what came, or throws if something is missing. */
async function follow(subscription: Subscription, last: number): Promise<number[]> {
  const seen: number[] = [];
  for await (const message of subscription) {
    assert.equal(message.kind, "event", JSON.stringify(message));
    seen.push(message.kind === "event" ? Number(message.data) : 0);
    if (seen.at(-1) === last) {
      break;
    }
  }
  return seen;
}

async function collect(stream: AsyncIterable<{ readonly data: unknown }>): Promise<unknown[]> {
  const all: unknown[] = [];
  for await (const { data } of stream) {
    all.push(data);
  }
  return all;
}

function upTo(n: number): number[] {
  return Array.from({ length: n }, (_, index) => index);
}

describe("chaos", { skip: SKIP_WITHOUT_LAB }, () => {
  let real: RealHub;
  let folder: string;
  let calm: Hub;

  before(async () => {
    real = await startHub({ lab: true });
    calm = await connect(real.url);
    folder = mkdtempSync(join(tmpdir(), "trunkline-chaos-"));
  });

  after(async () => {
    await calm.close();
    await real.stop();
    rmSync(folder, { recursive: true });
  });

  for (const seed of SEEDS) {
    test(`seed ${seed}: everything once, in order, and nothing left out`, async () => {
      const roll = dice(seed);
      const proxy = await Proxy.start(real.port);
      proxy.split(50 + roll(1_000));
      const { hub, warnings, ...watched } = await Watched.connect(proxy.url);
      const marker = join(folder, `runs${seed}`);
      writeFileSync(marker, "");
      const served = `node.chaos${seed}`;
      await hub.register(served, countdown, { streaming: true });
      const subscription = await hub.subscribe(`chaos.${seed}`);
      const events = follow(subscription, ROUNDS * 10);
      // Seldom enough that there is progress between two cuts.
      const cutting = setInterval(() => {
        proxy.budget = 20 + roll(16_000);
      }, 30);
      for (let round = 0; round < ROUNDS; round += 1) {
        const [runs, streamed, echoed, sum, counted] = await within(
          `round ${round}`,
          Promise.all([
            Promise.all(upTo(5).map(() => hub.call("lab.counted_run", { marker }))),
            collect(hub.stream("debug.count", { n: 200 })),
            collect(hub.stream("lab.echo_input", {}, { input: items(150) })),
            hub.call("lab.sum", {}, { input: items(100) }),
            collect(calm.stream(served, { n: 300 })),
            Promise.all(upTo(10).map((n) => hub.publish(`chaos.${seed}`, round * 10 + n + 1))),
          ]),
        );
        assert.equal(runs.length, 5);
        assert.deepEqual(streamed, upTo(200).map((index) => ({ index })));
        assert.deepEqual(echoed, upTo(150));
        assert.equal(sum, 4_950);
        assert.deepEqual(counted, upTo(300).map((n) => 300 - n));
      }
      clearInterval(cutting);
      assert.equal(readFileSync(marker, "utf8").length, ROUNDS * 5);
      assert.deepEqual((await within("the events", events)).toSorted((a, b) => a - b), upTo(ROUNDS * 10).map((n) => n + 1));
      const resumed = watched.states.filter((state) => state.state === "connected");
      assert.ok(resumed.length > 3 && resumed.every((state) => state.resumed), `${resumed.length} connections`);
      assert.deepEqual(warnings, []);
      await hub.close();
      proxy.stop();
    });
  }
});
