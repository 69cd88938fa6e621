import { fileURLToPath } from "node:url";

// This project has its own client; Next itself and React are further up: see test_next.py.
export default { turbopack: { root: fileURLToPath(new URL("../..", import.meta.url)) }, productionBrowserSourceMaps: false };
