// A page and a worker of it; `said` has what each of them saw, by name.
import { scenario } from "./scenario.js";

/** @param {object} place */
function inWorker(place) {
  const worker = new Worker(new URL("./worker.js", import.meta.url), { type: "module" });
  return new Promise((resolve, reject) => {
    worker.onmessage = ({ data }) => resolve(data);
    worker.onerror = ({ message }) => reject(new Error(message));
    worker.postMessage(place);
  });
}

globalThis.run = ({ worker, ...place }) => (worker ? inWorker(place) : scenario(place));
