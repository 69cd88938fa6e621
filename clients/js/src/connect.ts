/**
 * From a URL to a client, connected or about to be.
 */
import { onAbort } from "./aborts.js";
import { Client } from "./client.js";
import { located } from "./errors.js";
import type { Hub } from "./hub.js";
import type { ConnectOptions } from "./options.js";
import { abortedError } from "./request.js";
import { settingsOf } from "./settings.js";
import type { Platform } from "./socket.js";

/** What `connect` does, wherever it runs. */
export async function connectOn(platform: Platform, url: string | URL, options: ConnectOptions = {}): Promise<Hub> {
  const [client, started] = begin(platform, url, { waitMs: 0, ...options });
  try {
    await started;
  } catch (error) {
    throw options.signal?.aborted === true ? abortedError(options.signal, false) : located(error);
  }
  return client;
}

/** What `createClient` does, wherever it runs. */
export function createClientOn(platform: Platform, url: string | URL, options: ConnectOptions = {}): Hub {
  const [client, started] = begin(platform, url, { waitMs: Infinity, ...options });
  started.catch(() => {
    // Told by `closed`, by the state, and by every call.
  });
  return client;
}

function begin(platform: Platform, url: string | URL, options: ConnectOptions): [Client, Promise<void>] {
  const client = new Client(settingsOf(platform, url, options));
  const { signal, waitMs = 0 } = options;
  const abort = (): void => {
    void client.close();
  };
  const started = client.link.start(waitMs).finally(onAbort(signal, abort));
  if (signal?.aborted === true) {
    abort();
  }
  return [client, started];
}
