/**
 * A hub in memory, for tests of programs that use one.
 *
 * @packageDocumentation
 */
export { MockHub } from "./mock-hub.js";
export type { MockCall, MockContext, MockHandler } from "./mock-connection.js";
