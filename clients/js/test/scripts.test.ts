/**
 * The shared scripts of protocol/conformance: several connections, cuts, values said before.
 */
import { after, before, describe, test } from "node:test";
import { CODEC } from "./support/codec.js";
import { play, scripts, SCRIPTS } from "./support/conformance.js";
import { RawConnection } from "./support/raw.js";
import { SKIP_WITHOUT_LAB, skipUnless, startHub, type RealHub } from "./support/real-hub.js";

const skip = SKIP_WITHOUT_LAB === false ? skipUnless(SCRIPTS) : SKIP_WITHOUT_LAB;

describe("scripts with the real hub", { skip }, () => {
  let real: RealHub;

  before(async () => {
    real = await startHub({ lab: true });
  });

  after(async () => {
    await real.stop();
  });

  for (const each of skip === false ? scripts() : []) {
    test(`${each.section}: ${each.name}`, () => play(each, () => RawConnection.open(real.url, [CODEC.subprotocol])));
  }
});
