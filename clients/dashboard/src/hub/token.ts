/**
 * The token, kept as long as this tab: never in an address, never in a cookie, gone with the tab.
 */
import { signal } from "@preact/signals";

const KEY = "trunkline.token";

export const token = signal(sessionStorage.getItem(KEY) ?? "");

export function keepToken(value: string): void {
  token.value = value;
  if (value === "") {
    sessionStorage.removeItem(KEY);
  } else {
    sessionStorage.setItem(KEY, value);
  }
}
