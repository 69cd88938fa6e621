// What TypeScript makes of the package's other entries, wherever it looks for them. scenario.js is checked with it.
import { connect, type Hub } from "trunkline";
import type { SpawnedHub } from "trunkline/node";
import { MockHub } from "trunkline/testing";

export async function use(spawned: SpawnedHub): Promise<string> {
  const hub: Hub = await connect(spawned.url);
  const mock = new MockHub().method("a", () => 1);
  // @ts-expect-error -- the types are there: a number is no URL
  await connect(1);
  return `${hub.connectionState} ${mock.url}`;
}
