import assert from "node:assert/strict";
import { test } from "node:test";
import { decode } from "../src/decode.js";
import { hubMethods, SKIP_WITHOUT_METHODS } from "./support/hub-methods.js";

/** One of each notification that a hub sends, and what it is here. */
const SAMPLES: Readonly<Record<string, readonly [params: object, kind: string]>> = {
  stream_chunk: [{ request_id: 1, chunk_type: "data", data: 1, is_final: false, index: 0 }, "chunk"],
  "stream.credit": [{ request_id: 1, consumed: 2 }, "credit"],
  "$/progress": [{ token: 1, value: 2 }, "progress"],
  "$/cancelRequest": [{ id: "h:1" }, "cancel"],
  "session.ack": [{ received: 3 }, "ack"],
  event: [{ topic: "a", data: 1, epoch: "e", offset: 1, published_at: 1 }, "event"],
  "event.gap": [{ topic: "a", epoch: "e", from: 1, to: 2, reason: "history" }, "gap"],
};

test("every notification of a hub is understood, and no other", { skip: SKIP_WITHOUT_METHODS }, () => {
  const names = hubMethods();
  assert.deepEqual(Object.keys(SAMPLES), names.notifications_from_hub);
  for (const [method, [params, kind]] of Object.entries(SAMPLES)) {
    assert.equal(decode(JSON.stringify({ jsonrpc: "2.0", method, params })).message.kind, kind);
  }
  const others = names.notifications_from_client.filter((name) => !(name in SAMPLES));
  for (const method of [...others, ...names.methods]) {
    assert.equal(decode(JSON.stringify({ jsonrpc: "2.0", method, params: { id: 1 } })).message.kind, "nonsense");
  }
});

test("the JSON form of bytes becomes bytes, wherever it is, and nothing else does", () => {
  const own = [{ $bytes: "no base64!" }, { $bytes: 1 }, { $bytes: "AA==", more: 1 }, "$bytes"];
  const result = { bytes: { $bytes: "AP/+" }, list: [{ $bytes: "" }], own };
  assert.deepEqual(decode(JSON.stringify({ jsonrpc: "2.0", id: 1, result })).message, {
    kind: "result",
    id: 1,
    result: { bytes: Uint8Array.of(0, 255, 254), list: [new Uint8Array()], own },
  });
});
