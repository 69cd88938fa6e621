/**
 * A call that ended, to copy and to try again: with what it was given, where the hub has kept that.
 */
import { isHubError } from "trunkline";
import { fieldsOf, numberOf, type EndedCall } from "../core/reports.ts";
import { hub } from "../hub/link.ts";
import { copy, say } from "../ui/copy.ts";
import { tryAgain } from "./console-state.ts";

const METHOD = "system.failure";

interface Given {
  readonly params: unknown;
  /** Values that the hub has taken out. */
  readonly redacted: number;
}

/** Copies it as the request it was; where nobody knows its params, as what the hub said of it. */
export async function copyCall(call: EndedCall): Promise<void> {
  const given = await givenTo(call);
  const request = { jsonrpc: "2.0", id: 1, method: call.method, params: given?.params };
  await copy(JSON.stringify(given === undefined ? call.raw : request, null, 2), given === undefined ? "the call" : "the request");
}

/** Brings it to the console. It is not sent: people look at it, and press the button themselves. */
export async function bringBack(call: EndedCall): Promise<void> {
  const given = await givenTo(call);
  const leftOut = tryAgain(call.method, given?.params);
  if (leftOut.length > 0) {
    say(`Left out, for ${call.method} has no such parameters: ${leftOut.join(", ")}`);
  } else if (given === undefined) {
    say("The params of this call are not kept: fill in the form.");
  } else if (given.redacted > 0) {
    say(`${given.redacted === 1 ? "A secret is" : `${given.redacted} secrets are`} redacted: replace "***" before you call.`);
  }
}

async function givenTo({ failure }: EndedCall): Promise<Given | undefined> {
  const connection = hub.peek();
  if (failure === undefined || connection === undefined) {
    return undefined;
  }
  try {
    const result = fieldsOf(await connection.call(METHOD, { failure }, { retry: false }));
    return result.kept === true ? { params: result.params, redacted: numberOf(result.redacted) ?? 0 } : undefined;
  } catch (error) {
    if (!isHubError(error)) {
      throw error;
    }
    return undefined;
  }
}
