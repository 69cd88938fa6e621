/**
 * Whom the real hub lets in: its own words, tokens that run out, and sessions that it has no room for.
 */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { WebSocket } from "ws";
import { connect } from "../src/index.js";
import { PlainSocket } from "./support/plain-socket.js";
import { Proxy } from "./support/proxy.js";
import { SKIP_WITHOUT_HUB, startHub, type RealHub } from "./support/real-hub.js";
import { Watched, watched } from "./support/resilient.js";
import { refusal } from "./support/scripted.js";
import { pause } from "./support/time.js";

const TOKEN = "the-only-token-of-this-hub";

describe("a hub with a token, and room for one session", { skip: SKIP_WITHOUT_HUB }, () => {
  let real: RealHub;
  let proxy: Proxy;
  /** The one that has the session. */
  let client: Watched;
  /** What it is given when it asks for a token once more. */
  const tokens = ["wrong", new Error("no token now"), TOKEN];
  const asked: unknown[] = [];

  before(async () => {
    real = await startHub({ env: { TRUNKLINE_TOKEN: TOKEN, TRUNKLINE_MAX_SESSIONS: "1" } });
    proxy = await Proxy.start(real.port);
    const token = async (): Promise<string> => {
      await pause(1);
      const next = asked.length === 0 ? TOKEN : tokens[asked.length - 1];
      asked.push(next);
      if (typeof next === "string") {
        return next;
      }
      throw next ?? new Error("asked too often");
    };
    client = await Watched.connect(proxy.url, { token });
  });

  after(async () => {
    await client.hub.close();
    proxy.stop();
    await real.stop();
  });

  test("its own words, by either way", async () => {
    for (const Socket of [WebSocket, PlainSocket]) {
      const wrong = await refusal(connect(real.url, { WebSocket: Socket, token: "wrong" }));
      assert.deepEqual([wrong.code, wrong.errorName], [6001, "UNAUTHENTICATED"]);
      assert.match(wrong.message, /the token is not valid/u);
      const lost = await refusal(connect(`${real.url}/nowhere`, { WebSocket: Socket }));
      assert.match(lost.message, /no WebSocket endpoint at '\/ws\/nowhere'; this hub has \/ws/u);
    }
    const foreign = await refusal(connect(real.url, { WebSocket, headers: { Origin: "http://localhost:5173" } }));
    assert.deepEqual([foreign.status, foreign.code], [403, 6002]);
    assert.match(foreign.message, /origin 'http:\/\/localhost:5173' is not allowed; add it to TRUNKLINE_ALLOWED_ORIGINS/u);
  });

  test("a token that runs out is asked for again", async () => {
    const open = client.hub.call<{ slept: number }>("debug.sleep", { seconds: 1 });
    await client.hub.call("rpc.ping");
    proxy.cut();
    assert.equal((await open).slept, 1);
    await client.until("resumed");
    assert.deepEqual(client.story, ["try 1", "try 2", "try 3", "resumed"]);
    assert.deepEqual(asked, [TOKEN, ...tokens]);
    const failed = client.states[2];
    assert.match(failed?.state === "reconnecting" ? failed.cause.reason : "", /no token now/u);
    await refusal(connect(real.url, { token: () => "wrong" }));
  });

  test("more sessions than the hub has room for: it goes on without one", async (t) => {
    const two = await watched(t, real.url, { token: TOKEN });
    assert.deepEqual(client.warnings, []);
    assert.match(two.warnings.join(), /no session.*2003/u);
    assert.equal(await two.hub.call("debug.echo", { value: 1 }), 1);
  });
});
