/**
 * What only Node can: start a hub.
 *
 * @packageDocumentation
 */
export { SpawnError } from "./spawn-error.js";
export { spawnHub, type SpawnedHub } from "./spawn.js";
export type { LogStream, RestartPolicy, SpawnedState, SpawnEnd, SpawnOptions } from "./options.js";
