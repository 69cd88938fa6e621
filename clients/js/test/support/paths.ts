import { fileURLToPath } from "node:url";

/** clients/js. Tests run from build/test/, one file each. */
export const PACKAGE = fileURLToPath(new URL("../..", import.meta.url));

/** The repository. */
export const REPOSITORY = fileURLToPath(new URL("../../../..", import.meta.url));
