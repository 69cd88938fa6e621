/**
 * What the clients of these tests speak where they name no codec, and the scripted hub with them: JSON. `build-tests.mjs` builds
 * some files a second time with MessagePack in its place.
 */
export { JSON_CODEC as CODEC } from "../../src/encode.js";
