/**
 * In the place of JSON, where tests are built to run over MessagePack.
 */
export { msgpack as CODEC, msgpack as JSON_CODEC } from "../../src/msgpack.js";
