/**
 * MessagePack by itself, and against the real hub: the same values as over JSON, and bytes as bytes.
 */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { connect, ConnectError, type Hub } from "../src/index.js";
import { JSON_CODEC } from "../src/encode.js";
import { msgpack } from "../src/msgpack.js";
import { unpack } from "../src/unpack.js";
import { MockHub } from "../src/testing/index.js";
import { dice } from "./support/dice.js";
import { SKIP_WITHOUT_HUB, startHub, type RealHub } from "./support/real-hub.js";
import { connected, listen, ONE_CONNECTION, rejection } from "./support/scripted.js";

function there(value: unknown): unknown {
  return (msgpack.parse(msgpack.encode({ value })) as { value: unknown }).value;
}

function hex(value: unknown): string {
  // Behind the map of one member with the key "v".
  return Buffer.from(msgpack.encode({ v: value })).subarray(3).toString("hex");
}

/** By the specification of MessagePack, the shortest form of each. */
for (const [value, expected] of [
  [null, "c0"], [false, "c2"], [true, "c3"],
  [0, "00"], [127, "7f"], [128, "cc80"], [255, "ccff"], [256, "cd0100"], [65_535, "cdffff"], [65_536, "ce00010000"],
  [2 ** 32 - 1, "ceffffffff"], [2 ** 32, "cf0000000100000000"], [Number.MAX_SAFE_INTEGER, "cf001fffffffffffff"],
  [-1, "ff"], [-32, "e0"], [-33, "d0df"], [-128, "d080"], [-129, "d2ffffff7f"], [-(2 ** 31), "d280000000"],
  [-(2 ** 31) - 1, "d3ffffffff7fffffff"], [Number.MIN_SAFE_INTEGER, "d3ffe0000000000001"],
  [1.5, "cb3ff8000000000000"], [-0, "cb8000000000000000"],
  ["", "a0"], ["ab", "a26162"], ["é", "a2c3a9"], ["x".repeat(32), `d920${"78".repeat(32)}`],
  [Uint8Array.of(1, 2), "c4020102"], [new ArrayBuffer(1), "c40100"], [Buffer.from([9]), "c40109"], [new Uint8Array(), "c400"],
  [[], "90"], [[1, [2]], "92019102"], [{}, "80"], [{ a: undefined, b: 1 }, "81a16201"],
  [new Date(0), hex("1970-01-01T00:00:00.000Z")], [new Object("ab"), "a26162"],
] as const) {
  test(`packed: ${JSON.stringify(value)} ${expected}`, () => {
    assert.equal(hex(value), expected);
  });
}

for (const size of [0, 1, 15, 16, 23, 24, 31, 32, 255, 256, 4_096, 4_097, 65_535, 65_536, 70_000]) {
  test(`texts, bytes, arrays and objects of ${size}`, () => {
    const letters = ["a", "ü", "漢", "\u{FEFF}", "😀"].map((letter) => letter.repeat(size));
    const bytes = Uint8Array.from({ length: size }, (_, index) => index % 256);
    const items = Array.from({ length: size }, (_, index) => index);
    const members = Object.fromEntries(items.map((index) => [`k${index}`, index]));
    assert.deepEqual(there([letters, bytes, items, members]), [letters, bytes, items, members]);
  });
}

test("what other encoders write is read: float32, signed and wide forms, and sizes wider than they need to be", () => {
  for (const [bytes, value] of [
    ["ca3fc00000", 1.5], ["d1ff00", -256], ["d27fffffff", 2 ** 31 - 1], ["d30000000000000001", 1], ["cf0000000000000001", 1],
    ["da000161", "a"], ["db0000000161", "a"], ["dc000101", [1]], ["dd0000000101", [1]], ["de0001a16101", { a: 1 }], ["df00000001a16101", { a: 1 }],
    ["c5000107", Uint8Array.of(7)], ["c60000000107", Uint8Array.of(7)],
  ] as const) {
    assert.deepEqual(unpack(new Uint8Array(Buffer.from(bytes, "hex"))), value, bytes);
  }
});

test("integers that no number holds arrive exactly, as BigInt, and are not sent", () => {
  assert.equal(unpack(new Uint8Array(Buffer.from("cfffffffffffffffff", "hex"))), 2n ** 64n - 1n);
  assert.equal(unpack(new Uint8Array(Buffer.from("cf0020000000000001", "hex"))), 2n ** 53n + 1n);
  assert.equal(unpack(new Uint8Array(Buffer.from("d38000000000000000", "hex"))), -(2n ** 63n));
  assert.throws(() => there({ n: 2n }), /^TypeError: value\.n is a BigInt: send a string$/u);
});

for (const [bytes, fault] of [
  ["", /cut off/u], ["81a161", /cut off/u], ["a261", /cut off/u], ["c4ff00", /cut off/u], ["ddffffffff", /cut off/u], ["cb00", /cut off/u],
  ["0102", /1 bytes follow/u], ["c1", /type 193/u], ["d40100", /type 212/u], ["c70001", /type 199/u], ["8101c0", /a key is a number/u],
  ["a1ff", /valid/u], [`d920${"ff".repeat(32)}`, /valid/u],
] as const) {
  test(`refused: ${bytes} ${String(fault)}`, () => {
    assert.throws(() => unpack(new Uint8Array(Buffer.from(bytes, "hex"))), fault);
  });
}

test("whatever is cut off or garbled is an error or a value, and never anything else", () => {
  const whole = msgpack.encode({ a: [1, 1.5, "text", Uint8Array.of(1), null, { b: -70_000, c: 2 ** 40 }] }) as Uint8Array<ArrayBuffer>;
  for (let size = 0; size < whole.length; size += 1) {
    assert.throws(() => unpack(whole.slice(0, size)), /cut off/u);
  }
  const roll = dice(7);
  for (let round = 0; round < 5_000; round += 1) {
    const bytes = Uint8Array.from({ length: roll(40) }, () => roll(256));
    try {
      unpack(bytes);
    } catch (error) {
      assert.match(String(error), /cut off|follow|form in JSON|a key is|valid/u);
    }
  }
});

test("a member __proto__ is a member, and changes no prototype", () => {
  const value = JSON.parse('{"__proto__":{"polluted":1}}') as object;
  const arrived = there(value) as object;
  assert.deepEqual(Object.keys(arrived), ["__proto__"]);
  assert.equal(Object.getPrototypeOf(arrived), Object.prototype);
});

test("bytes are a Uint8Array of their own: nobody else's are in their buffer", () => {
  const [one] = there([Uint8Array.of(1, 2, 3), "secret"]) as [Uint8Array];
  assert.equal(one.buffer.byteLength, 3);
});

const FAULTS: readonly unknown[] = [
  Number.NaN, Infinity, -Infinity, 2 ** 53, -(2 ** 53), 10n, "a\uD800", { "\uD800": 1 }, new Float32Array(1), new DataView(new ArrayBuffer(1)),
  () => 1, Symbol("s"), new Map(), new Set([1]), new Error("e"), new Date(Number.NaN).getTime(), Promise.resolve(), [undefined], Array.from({ length: 2 }),
  { toJSON: () => undefined }, { toJSON: () => Number.NaN }, new Object(1), JSON.parse("[".repeat(128) + "]".repeat(128)),
];

for (const [number, value] of FAULTS.entries()) {
  test(`what JSON refuses is refused in the same words: ${number}`, () => {
    const messages = [JSON_CODEC, msgpack].map((codec) => {
      try {
        codec.encode({ params: { items: [0, { value }] } });
      } catch (error) {
        assert.ok(error instanceof TypeError);
        return error.message;
      }
      return "sent";
    });
    assert.equal(messages[1], messages[0]);
    assert.match(messages[0] ?? "", /^params\.items\.1\.value/u);
  });
}

test("what contains itself is a TypeError", () => {
  const loop: { self?: object } = {};
  loop.self = loop;
  assert.throws(() => msgpack.encode(loop), TypeError);
});

test("toJSON is asked as JSON.stringify asks it: with the key, after bytes", () => {
  const value = { a: { toJSON: (key: string) => `key ${key}` }, b: [{ toJSON: (key: string) => key }], c: Buffer.from("x") };
  assert.deepEqual(there(value), { a: "key a", b: ["0"], c: Uint8Array.of(120) });
});

/** A random value that can be sent. */
function randomValue(roll: (sides: number) => number, depth = 0): unknown {
  const kind = roll(depth > 2 ? 7 : 10);
  const size = roll(40);
  switch (kind) {
    case 0:
      return [null, true, false][roll(3)];
    case 1:
      return roll(2) === 0 ? roll(300) : 0 - roll(300);
    case 2:
      return (roll(2 ** 21) * 2 ** 32 + roll(2 ** 31)) * (roll(2) === 0 ? 1 : -1);
    case 3:
      return (roll(2 ** 31) / 2 ** 31) * 10 ** (roll(160) - 150);
    case 4:
      return String.fromCodePoint(...Array.from({ length: size }, () => [97, 0, 0xe9, 0xfeff, 0x6f22, 0x1f600][roll(6)] ?? 97));
    case 5:
      return Uint8Array.from({ length: size * 10 }, () => roll(256));
    case 6:
      return Array.from({ length: size }, () => roll(2 ** 31) / 977);
    case 7:
      return Array.from({ length: roll(20) }, () => randomValue(roll, depth + 1));
    default:
      return Object.fromEntries(Array.from({ length: roll(18) }, (_, index) => [`${index}é`.slice(0, roll(3)), randomValue(roll, depth + 1)]));
  }
}

test("random values arrive the same, packed as in JSON", () => {
  for (let seed = 0; seed < 500; seed += 1) {
    const value = randomValue(dice(seed));
    const message = { jsonrpc: "2.0", id: 1, result: value };
    const [packed, text] = [msgpack, JSON_CODEC].map((codec) => codec.parse(codec.encode(message)));
    assert.deepEqual(packed, message, `seed ${seed}`);
    assert.deepEqual(packed, text, `seed ${seed}`);
  }
});

test("members are put ahead of a message", () => {
  const frame = msgpack.encode({ method: "m", params: { a: 1 } });
  assert.deepEqual(msgpack.parse(msgpack.join({ seq: 1, id: undefined }, frame)), { seq: 1, method: "m", params: { a: 1 } });
  const long = Object.fromEntries(Array.from({ length: 15 }, (_, index) => [`k${index}`, index]));
  assert.throws(() => msgpack.join({ seq: 1 }, msgpack.encode(long)), RangeError);
});

test("a hub that speaks only JSON is refused, and the error says what it does not speak", async (t) => {
  // Platforms that look after it themselves end the connection with words of their own.
  const own = await rejection(connect((await listen(t, { subprotocol: JSON_CODEC.subprotocol })).url, { ...ONE_CONNECTION, codec: msgpack }));
  assert.ok(own instanceof ConnectError);
  assert.match(own.message, /subprotocol/u);
  const error = await rejection(new MockHub().connect({ codec: msgpack }));
  assert.ok(error instanceof ConnectError);
  assert.match(error.message, /it does not speak trunkline\.v1\+msgpack$/u);
});

test("a codec that is none is a TypeError", async () => {
  assert.ok((await rejection(connect("ws://127.0.0.1:1/ws", { codec: "msgpack" as never }))) instanceof TypeError);
});

test("a text frame, and one that says nothing, warn, and the connection lives", async (t) => {
  const { url, accept } = await listen(t, { subprotocol: msgpack.subprotocol });
  const warnings: string[] = [];
  const onWarning = (message: string): void => {
    warnings.push(message);
  };
  const [hub, peer] = await Promise.all([connect(url, { ...ONE_CONNECTION, codec: msgpack, onWarning }), accept()]);
  const call = hub.call("a");
  peer.text("{}");
  peer.binary(Uint8Array.of(0xc1));
  peer.binary(msgpack.encode({ jsonrpc: "2.0", id: 1, result: "fine" }) as Uint8Array);
  assert.equal(await call, "fine");
  assert.equal(warnings.length, 2);
  await hub.close();
});

test("over JSON a binary frame says nothing", async (t) => {
  const { hub, peer, warnings } = await connected(t, { codec: JSON_CODEC });
  const call = rejection(hub.call("a"));
  peer.binary(Uint8Array.of(0x7b, 0x7d));
  peer.close(1000, "");
  await call;
  assert.equal(warnings.length, 1);
});

describe("at the real hub", { skip: SKIP_WITHOUT_HUB }, () => {
  let real: RealHub;
  let json: Hub;
  let packed: Hub;

  before(async () => {
    real = await startHub();
    json = await connect(real.url, { codec: JSON_CODEC });
    packed = await connect(real.url, { codec: msgpack });
  });

  after(async () => {
    await Promise.all([json.close(), packed.close()]);
    await real.stop();
  });

  test("a megabyte, and 100 vectors of 384, are the same there and back", async () => {
    const roll = dice(1);
    const bytes = Uint8Array.from({ length: 2 ** 20 }, () => roll(256));
    const vectors = Array.from({ length: 100 }, () => Array.from({ length: 384 }, () => roll(2 ** 31) / 2 ** 31 - 0.5));
    for (const hub of [json, packed]) {
      assert.deepEqual(await hub.call("debug.echo", { value: bytes }), bytes);
      assert.deepEqual(await hub.call("debug.echo", { value: vectors }), vectors);
    }
  });

  test("-0 keeps its sign, which JSON does not give it", async () => {
    assert.deepEqual(await packed.call("debug.echo", { value: [-0] }), [-0]);
    assert.deepEqual(await json.call("debug.echo", { value: [-0] }), [0]);
  });

  test("random values are the same for both", async () => {
    for (let seed = 0; seed < 100; seed += 1) {
      const value = randomValue(dice(seed));
      const [one, other] = await Promise.all([json, packed].map((hub) => hub.call("debug.echo", { value })));
      assert.deepEqual(other, one, `seed ${seed}`);
      assert.deepEqual(other, value, `seed ${seed}`);
    }
  });

  test("events cross from one form to the other", async () => {
    const subscription = await packed.subscribe("frames.camera");
    const data = { jpeg: Uint8Array.of(255, 216), at: Number.MAX_SAFE_INTEGER };
    await json.publish("frames.camera", data);
    for await (const message of subscription) {
      assert.equal(message.kind, "event");
      assert.deepEqual(message.kind === "event" && message.data, data);
      break;
    }
  });

  test("each serves the other, with bytes, chunks and progress", async () => {
    for (const [callee, caller] of [[json, packed], [packed, json]] as const) {
      const registration = await callee.register<{ data: Uint8Array }>("mirror", async function* mirror({ data }) {
        yield data;
        yield* data;
        return data.toReversed();
      }, { streaming: true });
      const stream = caller.stream<unknown, Uint8Array>("mirror", { data: Uint8Array.of(1, 255) });
      const chunks: unknown[] = [];
      for await (const chunk of stream) {
        chunks.push(chunk.data);
      }
      assert.deepEqual(chunks, [Uint8Array.of(1, 255), 1, 255]);
      assert.deepEqual(await stream.result, Uint8Array.of(255, 1));
      await registration.unregister();
    }
  });
});
