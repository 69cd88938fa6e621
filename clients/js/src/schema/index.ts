/**
 * Served methods whose params and results are checked by a schema: zod, valibot, arktype, and whatever else follows Standard
 * Schema v1.
 *
 * @packageDocumentation
 */
import { ERROR_CODES, RpcError, type Handler, type JsonSchema, type ServedCall } from "../index.js";
import { isAsyncIterable } from "../iterables.js";
import type { InputOf, Issue, OutputOf, StandardSchema } from "./standard.js";

export type { InputOf, Issue, JsonSchemaOf, Outcome, OutputOf, StandardSchema } from "./standard.js";

/** How many issues a caller is told. */
const MAX_ISSUES = 16;

/** What a method takes and gives. */
export interface Contract<P extends StandardSchema, R extends StandardSchema> {
  /** Of the params, as one object. */
  readonly params?: P | undefined;
  /** Of the result; of a stream what its generator returns. */
  readonly result?: R | undefined;
  /**
   * What the hub is told of the params. Default: what `params` itself says, if it can; a schema that can, but not of this one,
   * throws. `null` tells nothing.
   */
  readonly paramsSchema?: JsonSchema | null | undefined;
  /** The same of the result. */
  readonly resultSchema?: JsonSchema | null | undefined;
}

/** What a handler may give whose result has to be `R`: the result, or a generator of chunks that returns it. */
export type Given<R> = R | PromiseLike<R> | AsyncGenerator<unknown, R>;

/**
 * A handler for `hub.register` that gets what the schema makes of the params, and gives what the schema makes of its result.
 *
 * Callers get -32602 for params that are not as the schema says, with `data.errors`: `field` and `message` of each; and 1003 for
 * such a result. The hub is told both schemas where they have a JSON Schema.
 *
 * @throws TypeError if a schema is none, or has no JSON Schema and {@link Contract.paramsSchema} does not stand in for it.
 */
export function checked<P extends StandardSchema, R extends StandardSchema>(
  contract: Contract<P, R>,
  handler: (params: OutputOf<P>, call: ServedCall) => Given<InputOf<R>>,
): Handler {
  const { params, result, ...told } = contract;
  requireSchema("params", params);
  requireSchema("result", result);
  const serve: Handler = async (given, call) => {
    const taken = await validated(params, given, "params", ERROR_CODES.INVALID_PARAMS);
    const outcome = await handler(taken as OutputOf<P>, call);
    const check = (value: unknown): Promise<unknown> => validated(result, value, "result", ERROR_CODES.SERIALIZATION_ERROR);
    return isAsyncIterable(outcome) ? stream(outcome, check) : check(outcome);
  };
  const schemas = {
    params: jsonSchema("params", params, "input", told.paramsSchema),
    result: jsonSchema("result", result, "output", told.resultSchema),
  };
  return Object.assign(serve, { schemas });
}

/** What a schema makes of a value. */
async function validated(schema: StandardSchema | undefined, value: unknown, what: string, code: number): Promise<unknown> {
  if (schema === undefined) {
    return value;
  }
  const outcome = await schema["~standard"].validate(value);
  if (outcome.issues === undefined) {
    return outcome.value;
  }
  const errors = outcome.issues.slice(0, MAX_ISSUES).map((issue) => ({ field: fieldOf(issue), message: issue.message }));
  const words = errors.map(({ field, message }) => `${field === "" ? what : `${what}.${field}`}: ${message}`);
  const more = outcome.issues.length - errors.length;
  const message = [...words, ...(more > 0 ? [`and ${more} more`] : [])].join("; ");
  // A result is no parameter: where it is wrong is for people.
  throw new RpcError({ code, message, data: code === ERROR_CODES.INVALID_PARAMS ? { errors } : undefined });
}

/** The place of an issue, as the hub's own methods say it: names joined by dots. */
function fieldOf({ path = [] }: Issue): string {
  return path.map((part) => String(typeof part === "object" ? part.key : part)).join(".");
}

async function* stream(
  chunks: AsyncIterable<unknown, unknown>,
  check: (value: unknown) => Promise<unknown>,
): AsyncGenerator<unknown, unknown> {
  return check(yield* chunks);
}

function requireSchema(name: string, schema: StandardSchema | undefined): void {
  if (schema !== undefined && typeof schema["~standard"]?.validate !== "function") {
    throw new TypeError(`${name} is no Standard Schema: it has no ~standard.validate`);
  }
}

/** What the hub is told of a schema; undefined is nothing. */
function jsonSchema(
  name: string,
  schema: StandardSchema | undefined,
  side: "input" | "output",
  told: JsonSchema | null | undefined,
): JsonSchema | undefined {
  if (told !== undefined) {
    return told ?? undefined;
  }
  try {
    return schema?.["~standard"].jsonSchema?.[side]({ target: "draft-2020-12" });
  } catch (error) {
    const words = `${name} has no JSON Schema: give ${name}Schema, or null to tell the hub nothing of it`;
    throw new TypeError(words, { cause: error });
  }
}
