import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { controlOf, hintOf, paramsOf, parsed, typedOf } from "../src/core/form.ts";
import { methodsOf } from "../src/core/openrpc.ts";

const param = (schema: object, required = true): Parameters<typeof parsed>[0] => ({ name: "p", required, schema: { ...schema } });

describe("a form from a schema", () => {
  test("each kind of schema has its control", () => {
    const kinds = [{ type: "string", maxLength: 20 }, { type: "string" }, { type: ["integer", "null"] }, { type: "boolean" }, { enum: ["a", 1] }, { type: "array" }, {}];
    assert.deepEqual(
      kinds.map((schema) => controlOf(schema)),
      [
        { kind: "text", long: false },
        { kind: "text", long: true },
        { kind: "number", integer: true, min: undefined, max: undefined },
        { kind: "choice", values: [true, false] },
        { kind: "choice", values: ["a", 1] },
        { kind: "json", type: "array" },
        { kind: "json", type: undefined },
      ],
    );
  });

  test("what is typed means what the schema says", () => {
    assert.deepEqual(parsed(param({ type: "string" }), "12"), { ok: true, value: "12" });
    assert.deepEqual(parsed(param({ type: "number" }), "1.5"), { ok: true, value: 1.5 });
    assert.deepEqual(parsed(param({ type: "boolean" }), "false"), { ok: true, value: false });
    assert.deepEqual(parsed(param({ enum: ["a"] }), '"a"'), { ok: true, value: "a" });
    assert.deepEqual(parsed(param({ type: "object" }), '{"a":[1]}'), { ok: true, value: { a: [1] } });
    assert.equal(parsed(param({ type: "integer" }, false), ""), undefined);
  });

  test("what is wrong is said, by name", () => {
    const wrong = (schema: object, text: string): string => {
      const result = parsed(param(schema), text);
      return result?.ok === false ? result.why : "fine";
    };
    assert.equal(wrong({ type: "integer" }, ""), "is required");
    assert.equal(wrong({ type: "integer" }, "1.5"), "must be an integer");
    assert.equal(wrong({ type: "integer" }, "9007199254740993"), "must be an integer");
    assert.equal(wrong({ type: "number", minimum: 0 }, "-1"), "must be at least 0");
    assert.equal(wrong({ type: "number", maximum: 5 }, "6"), "must be at most 5");
    assert.equal(wrong({ type: "string", minLength: 1 }, ""), "must not be empty");
    assert.equal(wrong({ type: "array" }, "{}"), "must be a JSON array: [ … ]");
    assert.equal(wrong({ type: "object" }, "[]"), "must be a JSON object: { … }");
    assert.match(wrong({}, "{"), /^is not JSON/u);
    const both = [{ ...param({ type: "string" }), name: "a" }, { ...param({ type: "integer" }), name: "b" }];
    assert.deepEqual(paramsOf(both, { a: "x", b: "y" }), { params: { a: "x" }, wrong: { b: "must be a number" } });
  });

  test("a call that is tried again fills the form with what it was", () => {
    const params = [{ ...param({ type: "string" }), name: "a" }, { ...param({}), name: "b" }, { ...param({}, false), name: "c" }];
    const values = { a: "text", b: "also text" };
    const typed = typedOf(params, values);
    assert.deepEqual(typed, { a: "text", b: '"also text"' });
    assert.deepEqual(paramsOf(params, typed).params, values);
  });

  test("references and optional parameters are resolved, endless ones end", () => {
    const [method] = methodsOf({
      methods: [
        {
          name: "m",
          summary: "Takes ``n``.",
          params: [
            { name: "n", required: false, schema: { anyOf: [{ type: "integer", minimum: 1 }, { type: "null" }], default: 5 } },
            { name: "p", required: true, schema: { $ref: "#/components/schemas/a~1Point" } },
            { name: "loop", required: true, schema: { $ref: "#/components/schemas/Loop" } },
          ],
          "x-trunkline": { streaming: true },
        },
      ],
      components: { schemas: { "a/Point": { type: "object" }, Loop: { $ref: "#/components/schemas/Loop" } } },
    });
    assert.ok(method !== undefined);
    assert.deepEqual([method.summary, method.streaming], ["Takes n.", true]);
    assert.deepEqual(method.params.map((each) => hintOf(each)), ["integer, from 1, default 5", "JSON object", "JSON"]);
  });
});
