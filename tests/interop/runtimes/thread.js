// main.js in a thread of its own, which says so on this program's output.
import { Worker } from "node:worker_threads";

new Worker(new URL("./main.js", import.meta.url), { argv: process.argv.slice(2) });
