/**
 * A TCP proxy in front of a hub, for faults: what it does to a connection no peer does by itself.
 */
import { connect as dial, createServer, type AddressInfo, type Server, type Socket } from "node:net";

/** How long a peer gets to read what passed before a cut, in milliseconds. */
const READ_MS = 10;

interface Pair {
  readonly client: Socket;
  readonly hub: Socket;
}

export class Proxy {
  readonly url: string;
  /** How many connections came. */
  accepted = 0;
  /** Bytes that may pass before a connection is cut, in both directions together; for cuts in the middle of frames. */
  budget = Infinity;
  /** Whether newcomers are let in; else they are cut off at once. */
  isOpen = true;
  /** Where the hub is that newcomers are led to. */
  port: number;
  readonly #server: Server;
  readonly #pairs = new Set<Pair>();
  #piece = Infinity;

  private constructor(server: Server, port: number) {
    this.#server = server;
    this.port = port;
    this.url = `ws://127.0.0.1:${(server.address() as AddressInfo).port}/ws`;
  }

  static async start(port: number): Promise<Proxy> {
    const server = createServer();
    await new Promise<void>((resolve) => {
      server.listen(0, "127.0.0.1", resolve);
    });
    const proxy = new Proxy(server, port);
    server.on("connection", (client) => {
      proxy.#accept(client);
    });
    return proxy;
  }

  /** Resets every connection (RST), as a router does that forgot it. */
  cut(): void {
    for (const { client, hub } of this.#pairs) {
      client.resetAndDestroy();
      hub.resetAndDestroy();
    }
    this.#pairs.clear();
  }

  /** From now on nothing passes on the connections there are, and nobody is told: a cable that was pulled. */
  stall(): void {
    for (const { client, hub } of this.#pairs) {
      client.pause();
      hub.pause();
    }
  }

  /** From now on everything passes in pieces of so many bytes. */
  split(bytes: number): void {
    this.#piece = bytes;
  }

  stop(): void {
    this.cut();
    this.#server.close();
  }

  #accept(client: Socket): void {
    this.accepted += 1;
    client.on("error", () => {});
    if (!this.isOpen) {
      client.resetAndDestroy();
      return;
    }
    const hub = dial(this.port, "127.0.0.1");
    hub.on("error", () => {
      client.resetAndDestroy();
    });
    // Small pieces are to leave at once.
    client.setNoDelay();
    hub.setNoDelay();
    const pair = { client, hub };
    this.#pairs.add(pair);
    this.#relay(client, hub, pair);
    this.#relay(hub, client, pair);
  }

  #relay(from: Socket, to: Socket, pair: Pair): void {
    from.on("data", (data) => {
      const part = data.subarray(0, this.budget);
      this.budget -= part.length;
      for (let at = 0; at < part.length; at += this.#piece) {
        to.write(part.subarray(at, at + this.#piece));
      }
      if (part.length < data.length) {
        this.budget = Infinity;
        pair.client.pause();
        pair.hub.pause();
        // What passed is to be read before the cut: a reset drops what still waits to be.
        setTimeout(() => {
          pair.client.resetAndDestroy();
          pair.hub.resetAndDestroy();
          this.#pairs.delete(pair);
        }, READ_MS);
      }
    });
    from.on("end", () => to.end());
    from.on("close", () => {
      to.end();
      this.#pairs.delete(pair);
    });
  }
}
