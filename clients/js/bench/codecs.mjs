/**
 * What a call costs with JSON and with MessagePack, side by side in one run: bytes on the wire, milliseconds there and back.
 *
 *     node bench/codecs.mjs ws://127.0.0.1:8765/ws       # a hub with --methods trunkline.methods.debug
 */
import { performance } from "node:perf_hooks";
import { WebSocket } from "ws";
import { connect } from "trunkline";
import { msgpack } from "trunkline/msgpack";

const ROUNDS = 40;
const [url = "ws://127.0.0.1:8765/ws"] = process.argv.slice(2);

/** Counts what goes out and comes in. */
class Counted extends WebSocket {
  static bytes = 0;

  /**
   * @override
   * @param {string | Uint8Array} data
   */
  send(data) {
    Counted.bytes += typeof data === "string" ? Buffer.byteLength(data) : data.byteLength;
    super.send(data);
  }
}

/** @type {Record<string, unknown>} */
const VALUES = {
  "1 MiB of bytes": Uint8Array.from({ length: 2 ** 20 }, () => Math.random() * 256),
  "100 x 384 floats": Array.from({ length: 100 }, () => Array.from({ length: 384 }, () => Math.random() - 0.5)),
  "a small object": { query: "what is a closure?", top_k: 5 },
};

const hubs = {
  json: await connect(url, { WebSocket: Counted }),
  msgpack: await connect(url, { WebSocket: Counted, codec: msgpack }),
};

for (const [name, value] of Object.entries(VALUES)) {
  /** @type {Record<string, number[]>} */
  const times = { json: [], msgpack: [] };
  /** @type {Record<string, number>} */
  const bytes = {};
  for (let round = 0; round < ROUNDS; round += 1) {
    for (const [codec, hub] of Object.entries(hubs)) {
      Counted.bytes = 0;
      const begun = performance.now();
      // oxlint-disable-next-line no-await-in-loop -- one after the other: each has the machine to itself
      await hub.call("debug.echo", { value });
      times[codec]?.push(performance.now() - begun);
      bytes[codec] = Counted.bytes;
    }
  }
  const [json = 0, packed = 0] = [times.json, times.msgpack].map((all) => median(all));
  const [large = 0, small = 0] = [bytes.json, bytes.msgpack];
  console.log(`${name}: JSON ${large} B ${json.toFixed(2)} ms, MessagePack ${small} B ${packed.toFixed(2)} ms; ` +
    `ratio ${(small / large).toFixed(2)} in bytes, ${(packed / json).toFixed(2)} in time`);
}
await Promise.all(Object.values(hubs).map((hub) => hub.close()));

/** @param {number[] | undefined} numbers */
function median(numbers = []) {
  return numbers.toSorted((one, other) => one - other)[Math.floor(numbers.length / 2)] ?? 0;
}
