import { fileURLToPath } from "node:url";

/** Where `vite build` puts the page. */
export const built = fileURLToPath(new URL("../../../server/trunkline/edge/http/static", import.meta.url));
