/**
 * The reply to `history`.
 */
import { eventOf, gapIn, isFields } from "./decode.js";
import { ProtocolError } from "./errors.js";
import type { TopicHistory } from "./hub.js";

/** @throws ProtocolError if it says nothing. */
export function historyOf<T>(result: unknown): TopicHistory<T> {
  const { events, gap } = (result ?? {}) as Readonly<Record<string, unknown>>;
  const listed = Array.isArray(events) && events.map((event: unknown) => isFields(event) && eventOf(event));
  if (listed === false || listed.includes(false)) {
    throw new ProtocolError(`history was answered with ${JSON.stringify(result)}`);
  }
  return { ...(result as object), events: listed, gap: isFields(gap) ? gapIn(gap) : undefined } as unknown as TopicHistory<T>;
}
