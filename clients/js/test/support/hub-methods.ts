/** The names of the hub's methods and notifications, as the repository's table has them. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { REPOSITORY } from "./paths.js";
import { skipUnless } from "./real-hub.js";

interface HubMethods {
  readonly methods: readonly string[];
  readonly unnumbered_methods: readonly string[];
  readonly notifications_from_hub: readonly string[];
  readonly notifications_from_client: readonly string[];
}

const SHARED = join(REPOSITORY, "protocol", "conformance", "methods.json");

export const SKIP_WITHOUT_METHODS = skipUnless(SHARED);

export function hubMethods(): HubMethods {
  return JSON.parse(readFileSync(SHARED, "utf8")) as HubMethods;
}
