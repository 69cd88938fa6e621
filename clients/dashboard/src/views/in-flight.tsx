/**
 * Calls that run now, each with a button that ends it: where the hub lists them and lets this principal do that.
 */
import { computed, signal } from "@preact/signals";
import type { JSX } from "preact";
import { isHubError } from "trunkline";
import { milliseconds, NOTHING, plural } from "../core/format.ts";
import { CANCEL_METHOD, cancelParams, notListed, runningCallsOf, type RunningCall } from "../core/inflight.ts";
import { fieldsOf } from "../core/reports.ts";
import asks from "../hub/asks.json" with { type: "json" };
import { catalogue, metrics } from "../hub/feeds.ts";
import { hub } from "../hub/link.ts";
import { usePoll } from "../hub/poll.ts";
import { live } from "../hub/status.ts";
import { say } from "../ui/copy.ts";
import { Empty, Panel, Table, Trace } from "../ui/parts.tsx";

const running = signal<readonly RunningCall[]>([]);
const more = signal(0);
const refusal = signal<string | undefined>(undefined);
const cancelling = signal<ReadonlySet<string>>(new Set());
const canList = computed(() => catalogue.value.some(({ name }) => name === asks.views.requests.method));
const cancelMethod = computed(() => catalogue.value.find(({ name }) => name === CANCEL_METHOD));

export function InFlight(): JSX.Element {
  usePoll(
    canList.value ? asks.views.requests : undefined,
    (result) => {
      running.value = runningCallsOf(result, Date.now()).filter((call) => call.method !== asks.views.requests.method);
      more.value = notListed(result);
      refusal.value = undefined;
    },
    (why) => {
      running.value = [];
      refusal.value = why;
    },
  );
  const total = metrics.value?.numbers.calls_in_flight;
  return (
    <Panel title="In flight" note={total === undefined ? undefined : `${plural(total, "call")}${more.value > 0 ? `, ${more.value} of them not listed` : ""}`}>
      <InFlightList />
    </Panel>
  );
}

function InFlightList(): JSX.Element {
  if (!canList.value) {
    return <Empty>This hub does not list the calls in flight.</Empty>;
  }
  if (running.value.length === 0) {
    return <Empty>{refusal.value ?? "No call is in flight."}</Empty>;
  }
  return (
    <Table label="In flight" class={live.value ? "" : "old"} head={["method", { text: "age", number: true }, { text: "running", number: true }, "state", "executor", "principal", "trace", ""]}>
      {running.value.map((call) => (
        <RunningRow key={call.key} call={call} />
      ))}
    </Table>
  );
}

function RunningRow({ call }: { readonly call: RunningCall }): JSX.Element {
  const params = cancelParams(cancelMethod.value, call);
  const busy = cancelling.value.has(call.key);
  return (
    <tr>
      <td class="mono">{call.method}</td>
      <td class="number">{milliseconds(call.ageMs)}</td>
      <td class="number">{milliseconds(call.runningMs)}</td>
      <td>{call.state ?? NOTHING}</td>
      <td>{call.executor ?? NOTHING}</td>
      <td>{call.principal ?? NOTHING}</td>
      <Trace id={call.traceId} />
      <td class="buttons">
        {params !== undefined && (
          <button type="button" class="danger" disabled={busy || !live.value} aria-label={`${busy ? "Cancelling" : "Cancel"} ${call.method}`} onClick={() => void cancel(call, params)}>
            {busy ? "Cancelling" : "Cancel"}
          </button>
        )}
      </td>
    </tr>
  );
}

async function cancel(call: RunningCall, params: object): Promise<void> {
  cancelling.value = new Set([...cancelling.peek(), call.key]);
  try {
    const result = fieldsOf(await hub.peek()?.call(CANCEL_METHOD, params, { retry: false }));
    say(result.cancelled === false ? `${call.method} had already ended` : `Cancelled ${call.method}`);
  } catch (error) {
    if (!isHubError(error)) {
      throw error;
    }
    say(`${call.method} was not cancelled: ${error.message}`);
  } finally {
    cancelling.value = new Set([...cancelling.peek()].filter((key) => key !== call.key));
  }
}
