/**
 * What a program does with the client wherever it runs: it calls, streams, subscribes, is cut and goes on, and is refused once.
 */
import { connect, isHubError } from "trunkline";

/**
 * Gives what it saw, as JSON. `name` is for what it alone uses: the topic, and the method that cuts its connection.
 *
 * @param {{ url: string, token: string, name: string }} place
 */
export async function scenario({ url, token, name }) {
  const hub = await connect(url, { token, connectTimeoutMs: 60_000 });
  /** @type {string[]} */
  const states = [];
  hub.onConnectionState((change) => states.push(change.state === "connected" && change.resumed ? "resumed" : change.state));
  const called = await hub.call("debug.echo", { value: "Grüße" });
  const failed = await hub.call("no.such").catch(told);
  const stream = hub.stream("debug.count", { n: 100 });
  /** @type {number[]} */
  const indexes = [];
  for await (const { index } of stream) {
    indexes.push(index);
  }
  const summary = await stream.result;
  const events = await hub.subscribe(`runtimes.${name}`);
  await hub.publish(`runtimes.${name}`, 1);
  // Whoever serves it cuts the connection that this call came by, publishes 2, and answers then.
  const cut = await hub.call(`runtimes.cut.${name}`);
  await hub.publish(`runtimes.${name}`, 3);
  /** @type {unknown[]} */
  const heard = [];
  for await (const message of events) {
    heard.push(message.kind === "event" ? message.data : message.reason);
    if (message.kind === "event" && message.data === 3) {
      break;
    }
  }
  await hub.close();
  const refused = await connect(url, { token: "wrong", connectTimeoutMs: 60_000 }).then(() => "let in", told);
  return { called, failed, indexes, summary, cut, states, heard, refused };
}

/** @param {unknown} error */
function told(error) {
  if (!isHubError(error)) {
    return String(error);
  }
  const { kind, message } = error;
  return kind === "rpc" || kind === "connect" ? { kind, code: error.code, message } : { kind, message };
}
