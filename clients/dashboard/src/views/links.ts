/**
 * From one view to another, with what is looked for there.
 */
import { signal } from "@preact/signals";

/** A trace or request id that calls have to have; "" is any. */
export const wantedId = signal("");
/** A text that log records have to contain. */
export const wantedText = signal("");

/** The calls of a trace or request, among those the page has heard of. */
export function showCalls(id: string): void {
  wantedId.value = id;
  location.hash = "#/requests";
}

/** What the log says of a trace or request. */
export function showLog(id: string): void {
  wantedText.value = id;
  location.hash = "#/logs";
}
