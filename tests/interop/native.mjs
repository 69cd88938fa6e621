// Runs a bundle of Metro's with the globals of React Native, and no others: `node native.mjs BUNDLE URL TOKEN NAME`
import { readFileSync } from "node:fs";
import { createContext, runInContext } from "node:vm";
import { WebSocket as Socket } from "ws";

const [bundle, url, token, name] = process.argv.slice(2);

/** Events and constructor of React Native's: an error has its words, and a close follows; nobody sees the HTTP answer. */
class WebSocket {
  static OPEN = 1;
  #socket;
  #listeners = { open: [], message: [], error: [], close: [] };

  constructor(address, protocols, { headers } = {}) {
    this.#socket = new Socket(address, protocols, { headers });
    this.#socket.on("open", () => this.#tell("open", {}));
    this.#socket.on("message", (data, isBinary) => this.#tell("message", { data: isBinary ? data.buffer : data.toString() }));
    this.#socket.on("error", ({ message }) => this.#tell("error", { message }));
    this.#socket.on("close", (code, reason) => this.#tell("close", { code, reason: reason.toString() }));
  }

  get readyState() {
    return this.#socket.readyState;
  }

  get protocol() {
    return this.#socket.protocol;
  }

  send(data) {
    this.#socket.send(data);
  }

  close(code = 1000, reason = "") {
    this.#socket.close(code, reason);
  }

  addEventListener(type, listener) {
    this.#listeners[type].push(listener);
  }

  #tell(type, event) {
    for (const listener of this.#listeners[type]) {
      listener({ type, ...event });
    }
  }
}

const globals = {
  console, setTimeout, clearTimeout, setInterval, clearInterval, queueMicrotask, btoa, atob, URL, TextEncoder,
  AbortController, AbortSignal, WebSocket, performance: { now: () => performance.now() }, navigator: { product: "ReactNative" },
};
const native = createContext(globals);
// It has a window, which is no page's: nothing can be listened to.
Object.assign(globals, { global: globals, window: globals, self: globals });
runInContext(readFileSync(bundle, "utf8"), native, { filename: bundle });
console.log(JSON.stringify(await globals.run({ url, token, name })));
