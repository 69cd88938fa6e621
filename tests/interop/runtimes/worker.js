import { scenario } from "./scenario.js";

globalThis.onmessage = async ({ data }) => {
  globalThis.postMessage(await scenario(data).catch(String));
};
