import assert from "node:assert/strict";
import { test } from "node:test";
import { encode } from "../src/encode.js";

function text(params: object): string {
  return encode({ jsonrpc: "2.0", id: 1, method: "m", params });
}

function faultOf(params: object): string {
  try {
    return `no fault: ${text(params)}`;
  } catch (error) {
    assert.ok(error instanceof TypeError);
    return error.message;
  }
}

test("ordinary values are what JSON.stringify makes of them", () => {
  const params = {
    text: "naïve 🎉 \u0000 \"quoted\"",
    numbers: [0, -1, 1.5, 5e-324, Number.MAX_SAFE_INTEGER, Number.MIN_SAFE_INTEGER],
    nested: { a: [{ b: [[], {}] }], nothing: null, yes: true },
    absent: undefined,
    when: new Date(0),
    "": { "odd name": 1 },
  };
  assert.equal(text(params), JSON.stringify({ jsonrpc: "2.0", id: 1, method: "m", params }));
});

const beyond = Number.MAX_SAFE_INTEGER + 1;
const FAULTS: readonly (readonly [params: object, message: RegExp])[] = [
  [{ n: beyond }, /^params\.n is -?9007199254740992: send/u],
  [{ n: -beyond }, /^params\.n is -?9007199254740992: send/u],
  [{ items: [{ x: 1 }, {}, { x: beyond }] }, /^params\.items\.2\.x is -?9007199254740992: send/u],
  [[[1, [Number.NaN]]], /^params\.0\.1\.0 is NaN/u],
  [{ a: Number.POSITIVE_INFINITY }, /^params\.a is Infinity/u],
  [{ a: Number.NEGATIVE_INFINITY }, /^params\.a is -Infinity/u],
  [{ a: { b: 10n } }, /^params\.a\.b is a BigInt/u],
  [{ "odd name": { "": Number.NaN } }, /^params\.odd name\. is NaN/u],
  [{ größe: Number.NaN }, /^params\.größe is NaN/u],
  [{ s: "a\uD800b" }, /^params\.s has a lone surrogate/u],
  [{ s: ["\uDC00\uD800"] }, /^params\.s\.0 has a lone surrogate/u],
  [{ o: { "\uD800": 1 } }, /^params\.o\.\uD800 has a lone surrogate/u],
  [{ v: new Float32Array(3) }, /^params\.v is no Uint8Array/u],
];

for (const [params, message] of FAULTS) {
  test(`refused: ${String(message)}`, () => {
    assert.match(faultOf(params), message);
  });
}

function tower(levels: number): unknown {
  return JSON.parse("[".repeat(levels) + "]".repeat(levels));
}

test("128 levels of params are sent, 129 are refused with their path, as are the thousands that end a stack", () => {
  assert.match(faultOf({ value: tower(127) }), /^no fault/u);
  assert.match(faultOf({ value: [1, tower(127)] }), /^params\.value\.1(?:\.0)+ is nested deeper than 128 levels$/u);
  assert.match(faultOf({ value: tower(5_000) }), /is nested deeper than 128 levels$/u);
});

test("the path is right behind shared, empty and deep neighbours", () => {
  const shared = { deep: [{ er: {} }] };
  const params = { a: shared, b: [shared, {}, [[]]], c: shared, d: [{ e: [0, { f: Number.NaN }] }] };
  assert.match(faultOf(params), /^params\.d\.0\.e\.1\.f is NaN/u);
  assert.match(faultOf({ list: [shared, shared, { ...shared, bad: Number.NaN }] }), /^params\.list\.2\.bad is NaN/u);
});

test("toJSON is asked first, as JSON.stringify does", () => {
  assert.equal(faultOf({ amount: { toJSON: () => Number.NaN } }).startsWith("params.amount is NaN"), true);
  assert.match(text({ amount: { toJSON: () => "12.50" } }), /"amount":"12.50"/u);
});

test("params that contain themselves are a TypeError", () => {
  const loop: { self?: object } = {};
  loop.self = loop;
  assert.match(faultOf(loop), /circular/iu);
});

test("metadata is checked as well", () => {
  const metadata = { deadline: Number.NaN };
  assert.throws(() => encode({ jsonrpc: "2.0", id: 1, method: "m", metadata }), /TypeError: metadata\.deadline is NaN/u);
});

test("lone surrogates are found where String.prototype.isWellFormed is missing", (t) => {
  const original = Object.getOwnPropertyDescriptor(String.prototype, "isWellFormed");
  assert.ok(original);
  t.after(() => Object.defineProperty(String.prototype, "isWellFormed", original));
  Object.defineProperty(String.prototype, "isWellFormed", { value: undefined, configurable: true });
  assert.match(faultOf({ s: "a\uD800" }), /^params\.s has a lone surrogate/u);
  assert.match(text({ s: "🎉" }), /🎉/u);
});

test("bytes are sent in their JSON form, whoever holds them", () => {
  const bytes = Uint8Array.of(0, 255, 254);
  const form = { $bytes: "AP/+" };
  assert.equal(
    text({ bytes, buffer: Buffer.from(bytes), whole: bytes.buffer, nested: [{ bytes }, "a"], empty: new Uint8Array() }),
    JSON.stringify({
      jsonrpc: "2.0",
      id: 1,
      method: "m",
      params: { bytes: form, buffer: form, whole: form, nested: [{ bytes: form }, "a"], empty: { $bytes: "" } },
    }),
  );
  assert.match(faultOf({ a: [bytes, { b: Number.NaN }] }), /^params\.a\.1\.b is NaN/u);
});
