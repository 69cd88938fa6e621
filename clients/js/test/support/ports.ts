/**
 * Ports that are left and taken again.
 */
import { createServer } from "node:net";

const FIRST = 20_000;
let taken = 0;

/**
 * A port of this process's own, on which nobody listens. It is below those that the system gives to whoever asks for a free one, so
 * that nobody else has it by the time it is listened on, or listened on again.
 */
export async function ownPort(): Promise<number> {
  for (;;) {
    taken += 1;
    const port = FIRST + (process.pid % 500) * 20 + (taken % 20);
    if (await isFree(port)) {
      return port;
    }
  }
}

function isFree(port: number): Promise<boolean> {
  const server = createServer();
  return new Promise((resolve) => {
    server.once("error", () => {
      resolve(false);
    });
    server.listen(port, "127.0.0.1", () => {
      server.close(() => {
        resolve(true);
      });
    });
  });
}
