import assert from "node:assert/strict";
import { test } from "node:test";
import { ProtocolError } from "../src/index.js";
import { connected, rejection, roundTrip } from "./support/scripted.js";

/** What makes no sense, and what the warning about it says. */
const NONSENSE: readonly (readonly [text: string, warning: RegExp])[] = [
  ["", /not a JSON object/u],
  ["{", /not a JSON object/u],
  ["null", /not a JSON object/u],
  ["7", /not a JSON object/u],
  ['"text"', /not a JSON object/u],
  ["[]", /not a JSON object/u],
  ['[{"jsonrpc":"2.0","id":1,"result":1}]', /not a JSON object/u],
  ["{}", /a reply to nothing/u],
  ['{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"parse"}}', /a reply to nothing.*parse/u],
  ['{"jsonrpc":"2.0","id":"1","result":1}', /a reply to nothing/u],
  ['{"jsonrpc":"2.0","id":99,"result":1}', /a reply for 99, which is not in flight/u],
  ['{"jsonrpc":"2.0","id":99,"error":{"code":1,"message":""}}', /a reply for 99, which is not in flight/u],
  ['{"jsonrpc":"2.0","id":99}', /a reply for 99, which is not in flight/u],
  ['{"jsonrpc":"2.0","method":"unheard.of"}', /not understood/u],
  ['{"jsonrpc":"2.0","method":"stream_chunk"}', /not understood/u],
  ['{"jsonrpc":"2.0","method":"stream_chunk","params":[1]}', /not understood/u],
  ['{"jsonrpc":"2.0","method":"stream_chunk","params":{}}', /not understood/u],
  [chunk({ index: "0" }), /not understood/u],
  [chunk({ request_id: "1" }), /not understood/u],
  [chunk({ is_final: 1 }), /not understood/u],
  [chunk({ chunk_type: 1 }), /not understood/u],
  [chunk({}), /a chunk for 77, which is not in flight/u],
  ['{"jsonrpc":"2.0","method":"$/progress","params":{"token":77}}', /progress for 77, which is not in flight/u],
  ['{"jsonrpc":"2.0","method":"$/progress","params":{"token":"x"}}', /not understood/u],
  ['{"jsonrpc":"2.0","method":"event"}', /not understood/u],
  ['{"jsonrpc":"2.0","method":"event","params":[1]}', /not understood/u],
  [event({ topic: 1 }), /not understood/u],
  [event({ epoch: null }), /not understood/u],
  [event({ offset: "1" }), /not understood/u],
  [event({ published_at: "now" }), /not understood/u],
  [event({}), /an event of t, which nobody reads/u],
  [gap({ topic: 1 }), /not understood/u],
  [gap({ epoch: 1 }), /not understood/u],
  [gap({ from: "1" }), /not understood/u],
  [gap({ to: null }), /not understood/u],
  [gap({ reason: undefined }), /not understood/u],
  ["x".repeat(100_000), /^not a JSON object: x{200}…$/u],
];

function chunk(wrong: object): string {
  const params = { request_id: 77, chunk_type: "part", data: 1, index: 0, is_final: false, ...wrong };
  return JSON.stringify({ jsonrpc: "2.0", method: "stream_chunk", params });
}

function event(wrong: object): string {
  const params = { topic: "t", data: 1, epoch: "e", offset: 1, published_at: 1, ...wrong };
  return JSON.stringify({ jsonrpc: "2.0", method: "event", params });
}

function gap(wrong: object): string {
  const params = { topic: "t", epoch: "e", from: 1, to: 2, count: 2, reason: "slow_consumer", ...wrong };
  return JSON.stringify({ jsonrpc: "2.0", method: "event.gap", params });
}

for (const [text, warning] of NONSENSE) {
  test(`${text.slice(0, 90) || "(nothing)"} warns, and the connection lives`, async (t) => {
    const { hub, peer, warnings } = await connected(t);
    peer.text(text);
    await roundTrip(hub, peer);
    assert.equal(warnings.length, 1);
    assert.match(String(warnings[0]), warning);
  });
}

test("a binary frame warns, and the connection lives", async (t) => {
  const { hub, peer, warnings } = await connected(t);
  peer.binary(new Uint8Array([123, 125]));
  await roundTrip(hub, peer);
  assert.deepEqual(warnings, ["not a JSON object: {}"]);
});

/** Replies that say nothing. Their call must not wait for ever. */
const BROKEN = [
  { id: 1 },
  { id: 1, result: 1, error: { code: 1, message: "both" } },
  { id: 1, error: null },
  { id: 1, error: "text" },
  { id: 1, error: {} },
  { id: 1, error: { code: "1", message: "" } },
  { id: 1, error: { code: 1 } },
  { id: 1, result: 1, jsonrpc: "1.0" },
];

for (const reply of BROKEN) {
  test(`the reply ${JSON.stringify(reply)} is a ProtocolError of its call`, async (t) => {
    const { hub, peer, warnings } = await connected(t);
    const call = hub.call("m");
    await peer.next();
    peer.send(reply);
    const error = await rejection(call);
    assert.ok(error instanceof ProtocolError);
    assert.match(error.message, /not a reply/u);
    await roundTrip(hub, peer);
    assert.deepEqual(warnings, []);
  });
}

test("a second reply to the same call warns and changes nothing", async (t) => {
  const { hub, peer, warnings } = await connected(t);
  const call = hub.call("m");
  await peer.next();
  peer.result(1, "first");
  peer.result(1, "second");
  assert.equal(await call, "first");
  await roundTrip(hub, peer);
  assert.deepEqual(warnings, ["a reply for 1, which is not in flight"]);
});

test("without onWarning nonsense is ignored", async (t) => {
  const { hub, peer } = await connected(t, { onWarning: undefined });
  peer.text("nonsense");
  await roundTrip(hub, peer);
});

test("an onWarning that throws surfaces on its own and does not harm the connection", async (t) => {
  const bug = new Error("bug in the caller");
  const { hub, peer } = await connected(t, {
    onWarning: () => {
      throw bug;
    },
  });
  const surfaced = new Promise((resolve) => {
    process.setUncaughtExceptionCaptureCallback(resolve);
  });
  t.after(() => {
    process.setUncaughtExceptionCaptureCallback(null);
  });
  peer.text("nonsense");
  await roundTrip(hub, peer);
  assert.equal(await surfaced, bug);
});
