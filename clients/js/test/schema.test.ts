/**
 * Served methods whose params and results a schema checks, through the real hub.
 */
import assert from "node:assert/strict";
import { after, before, describe, test, type TestContext } from "node:test";
import { connect, RpcError, type Hub } from "trunkline";
import { z } from "zod";
import { checked, type StandardSchema } from "trunkline/schema";
import { objectOf } from "./support/objects.js";
import { SKIP_WITHOUT_HUB, startHub, type RealHub } from "./support/real-hub.js";
import { rejection } from "./support/scripted.js";

const TEXT = objectOf({ text: "string" });
const COUNT = objectOf({ words: "number" });

interface Described {
  readonly name: string;
  readonly params: readonly { readonly name: string; readonly schema: object }[];
  readonly result: { readonly schema: object };
}

describe("checked methods", { skip: SKIP_WITHOUT_HUB }, () => {
  let real: RealHub;
  let caller: Hub;

  before(async () => {
    real = await startHub();
    caller = await connect(real.url, { retry: false });
  });

  after(async () => {
    await caller.close();
    await real.stop();
  });

  async function callee(t: TestContext): Promise<Hub> {
    const hub = await connect(real.url);
    t.after(() => hub.close());
    return hub;
  }

  async function refusal(method: string, params?: object): Promise<RpcError> {
    const error = await rejection(caller.call(method, params));
    assert.ok(error instanceof RpcError);
    return error;
  }

  async function described(name: string): Promise<Described | undefined> {
    const { methods } = await caller.call<{ methods: Described[] }>("rpc.discover");
    return methods.find((method) => method.name === name);
  }

  for (const later of [false, true]) {
    test(`params and results that fit pass, others are told by their place: ${later ? "later" : "at once"}`, async (t) => {
      const hub = await callee(t);
      const [params, result] = [objectOf({ text: "string", times: "number" }, { later }), objectOf({ words: "number" }, { later })];
      let runs = 0;
      await hub.register(
        `node.words.${later}`,
        checked({ params, result }, ({ text, times }) => {
          runs += 1;
          return text === "lie" ? ({ words: "many" } as unknown as { words: number }) : { words: text.split(" ").length * times };
        }),
      );
      const name = `node.words.${later}`;
      assert.deepEqual(await caller.call(name, { text: "a b", times: 2 }), { words: 4 });
      const bad = await refusal(name, { text: 1 });
      assert.deepEqual([bad.code, bad.message], [-32602, "params.text: no string; params.times: no number"]);
      assert.deepEqual((bad.data as { errors?: unknown }).errors, [
        { field: "text", message: "no string" },
        { field: "times", message: "no number" },
      ]);
      assert.equal(bad.maybeExecuted, false);
      assert.equal(runs, 1, "the handler is not called with bad params");
      const lie = await refusal(name, { text: "lie", times: 1 });
      assert.deepEqual([lie.code, lie.message, lie.maybeExecuted], [1003, "result.words: no number", true]);
    });
  }

  test("what the schema makes of params and result is what the handler and the caller get", async (t) => {
    const hub = await callee(t);
    const number: StandardSchema<string, number> = {
      "~standard": { version: 1, vendor: "test", validate: (value) => ({ value: Number((value as { n: string }).n) }) },
    };
    const text: StandardSchema<number, string> = {
      "~standard": { version: 1, vendor: "test", validate: (value) => ({ value: `<${String(value)}>` }) },
    };
    await hub.register("node.twice", checked({ params: number, result: text }, (n) => n * 2));
    assert.equal(await caller.call("node.twice", { n: "21" }), "<42>");
  });

  test("many issues are told in part, and those of the whole by its name", async (t) => {
    const hub = await callee(t);
    const many = Object.fromEntries(Array.from({ length: 20 }, (_, n) => [`p${n}`, "number" as const]));
    await hub.register("node.many", checked({ params: objectOf(many) }, () => 1));
    const error = await refusal("node.many", {});
    assert.equal((error.data as { errors: unknown[] }).errors.length, 16);
    assert.match(error.message, /params\.p15: no number; and 4 more$/u);
    const nothing: StandardSchema = { "~standard": { version: 1, vendor: "test", validate: () => ({ issues: [{ message: "never" }] }) } };
    await hub.register("node.never", checked({ params: nothing }, () => 1));
    assert.equal((await refusal("node.never")).message, "params: never");
  });

  test("a validator that throws is no fault of the caller", async (t) => {
    const hub = await callee(t);
    const broken: StandardSchema = {
      "~standard": { version: 1, vendor: "test", validate: () => Promise.reject(new RangeError("broken")) },
    };
    await hub.register("node.broken", checked({ params: broken }, () => 1));
    const error = await refusal("node.broken", {});
    assert.equal(error.code, -32603);
    assert.match(error.message, /RangeError/u);
  });

  test("a stream: chunks pass as they come, what it returns is checked", async (t) => {
    const hub = await callee(t);
    await hub.register(
      "node.lines",
      checked({ params: TEXT, result: COUNT }, async function* lines({ text }, { progress }) {
        progress(1);
        const words = text.split(" ");
        yield* words;
        return { words: text === "lie" ? Number.NaN : words.length };
      }),
      { streaming: true },
    );
    const stream = caller.stream<string, object>("node.lines", { text: "a b" });
    const chunks: string[] = [];
    for await (const { data } of stream) {
      chunks.push(data);
    }
    assert.deepEqual(chunks, ["a", "b"]);
    assert.deepEqual(await stream.result, { words: 2 });
    const bad = await rejection(caller.stream("node.lines", { text: 1 }).result);
    assert.equal((bad as RpcError).code, -32602);
  });

  test("the hub is told the JSON Schemas, which options and null replace", async (t) => {
    const hub = await callee(t);
    const string = { type: "string" };
    await hub.register("node.told", checked({ params: TEXT, result: COUNT }, () => ({ words: 1 })));
    assert.deepEqual((await described("node.told"))?.params, [{ name: "text", required: true, schema: string }]);
    const { schema } = (await described("node.told"))?.result ?? { schema: {} };
    assert.deepEqual((schema as { required?: unknown }).required, ["words"]);
    await hub.register("node.silent", checked({ params: TEXT, paramsSchema: null, resultSchema: string }, () => "a"));
    assert.deepEqual((await described("node.silent"))?.params, []);
    assert.deepEqual((await described("node.silent"))?.result.schema, string);
    await hub.register("node.unable", checked({ params: objectOf({ text: "string" }, { json: false }) }, () => 1));
    assert.deepEqual((await described("node.unable"))?.params, []);
    await hub.register("node.plain", () => 1, { paramsSchema: { properties: { a: string } }, resultSchema: string });
    assert.deepEqual((await described("node.plain"))?.params, [{ name: "a", required: false, schema: string }]);
  });

  test("zod: a refinement that waits, defaults, a schema that refers to itself", async (t) => {
    const hub = await callee(t);
    const params = z.object({
      id: z.string().refine((id) => Promise.resolve(id !== "taken"), "is taken"),
      tags: z.array(z.string()).default(["none"]),
    });
    await hub.register("node.zod", checked({ params, result: z.object({ tags: z.array(z.string()) }) }, ({ tags }) => ({ tags })));
    assert.deepEqual(await caller.call("node.zod", { id: "new" }), { tags: ["none"] });
    assert.match((await refusal("node.zod", { id: "taken" })).message, /^params\.id: is taken$/u);
    assert.match((await refusal("node.zod", { id: "new", tags: ["a", 1] })).message, /^params\.tags\.1: /u);
    assert.deepEqual((await described("node.zod"))?.params.map(({ name }) => name), ["id", "tags"]);
    const tree = z.object({
      name: z.string(),
      get under() {
        return z.array(tree);
      },
    });
    await hub.register("node.tree", checked({ params: tree, result: tree }, (given) => given));
    const leaf = { name: "leaf", under: [] };
    assert.deepEqual(await caller.call("node.tree", { name: "root", under: [leaf] }), { name: "root", under: [leaf] });
    assert.match(JSON.stringify((await described("node.tree"))?.result), /"\$ref":"#\/components\/schemas\//u);
    assert.throws(() => checked({ params: z.object({ at: z.date() }) }, () => 1), /params has no JSON Schema/u);
  });

  test("a schema that the hub cannot show is refused", async (t) => {
    const hub = await callee(t);
    const error = await rejection(hub.register("node.large", () => 1, { resultSchema: { description: "x".repeat(65_536) } }));
    assert.equal((error as RpcError).code, -32602);
    assert.match((error as RpcError).message, /node\.large: .*the limit is 65536/u);
  });
});

function unable(): never {
  throw new Error("a date");
}

test("what is no schema, and one that has no JSON Schema, are told when the handler is made", () => {
  assert.throws(() => checked({ params: {} as StandardSchema }, () => 1), /^TypeError: params is no Standard Schema/u);
  const date: StandardSchema = {
    "~standard": { version: 1, vendor: "test", validate: (value) => ({ value }), jsonSchema: { input: unable, output: unable } },
  };
  assert.throws(() => checked({ result: date }, () => 1), /^TypeError: result has no JSON Schema: give resultSchema, or null/u);
  assert.doesNotThrow(() => checked({ result: date, resultSchema: null }, () => 1));
});
