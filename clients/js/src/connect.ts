/**
 * From a URL to a connected client.
 */
import { Client } from "./client.js";
import type { Hub } from "./hub.js";
import type { ConnectOptions } from "./options.js";
import { settingsOf } from "./settings.js";
import type { Platform } from "./socket.js";

/** What `connect` does, wherever it runs. */
export async function connectOn(platform: Platform, url: string | URL, options: ConnectOptions = {}): Promise<Hub> {
  const client = new Client(await settingsOf(platform, url, options));
  await client.link.start();
  return client;
}
