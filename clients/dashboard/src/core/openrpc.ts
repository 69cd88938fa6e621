/**
 * What the hub serves, from the OpenRPC document of `rpc.discover`.
 */
import { fieldsOf, isFields, listOf, numberOf, textOf, type Fields } from "./reports.ts";

export interface Method {
  readonly name: string;
  readonly summary: string | undefined;
  readonly pack: string | undefined;
  readonly streaming: boolean;
  readonly idempotent: boolean;
  readonly timeoutMs: number | undefined;
  /** The parameter whose value decides which executor runs it. */
  readonly routingKey: string | undefined;
  readonly params: readonly Param[];
}

export interface Param {
  readonly name: string;
  readonly required: boolean;
  readonly schema: Fields;
}

/** Every method, by name. */
export function methodsOf(document: unknown): readonly Method[] {
  const root = fieldsOf(document);
  return listOf(root.methods)
    .map((item) => methodOf(item, root))
    .toSorted((one, other) => one.name.localeCompare(other.name));
}

/** Whether executors own routing keys. */
export function hasRoutingKeys(methods: readonly Method[]): boolean {
  return methods.some(({ routingKey }) => routingKey !== undefined);
}

function methodOf(item: Fields, root: Fields): Method {
  const extension = fieldsOf(item["x-trunkline"]);
  return {
    name: textOf(item.name) ?? "?",
    // Docstrings mark code with two backticks.
    summary: textOf(item.summary)?.replaceAll("``", ""),
    pack: textOf(extension.pack),
    streaming: extension.streaming === true,
    idempotent: extension.idempotent === true,
    timeoutMs: numberOf(extension.timeout_ms),
    routingKey: textOf(extension.routing_key),
    params: listOf(item.params).map((param) => ({
      name: textOf(param.name) ?? "?",
      required: param.required === true,
      schema: resolved(param.schema, root),
    })),
  };
}

const MAX_REFERENCES = 8;

/** A schema without a reference at its top, and without the `null` that means "may be left out". */
export function resolved(schema: unknown, root: Fields): Fields {
  let found = fieldsOf(schema);
  for (let hops = 0; hops < MAX_REFERENCES; hops += 1) {
    const { $ref: reference, ...siblings } = found;
    if (typeof reference === "string") {
      found = { ...lookUp(reference, root), ...siblings };
      continue;
    }
    const choices = listOf(found.anyOf).filter((choice) => choice.type !== "null");
    if (choices.length !== 1) {
      break;
    }
    const { anyOf: _choices, ...others } = found;
    found = { ...choices[0], ...others };
  }
  return found;
}

function lookUp(reference: string, root: Fields): Fields {
  let place: unknown = root;
  for (const step of reference.replace(/^#\//u, "").split("/")) {
    place = isFields(place) ? place[step.replaceAll("~1", "/").replaceAll("~0", "~")] : undefined;
  }
  return fieldsOf(place);
}
