/**
 * A form from a JSON Schema: which control a parameter gets, and what its text means.
 */
import type { Param } from "./openrpc.ts";
import { fieldsOf, numberOf, textOf, type Fields } from "./reports.ts";

export type Control =
  | { readonly kind: "text"; readonly long: boolean }
  | { readonly kind: "number"; readonly integer: boolean; readonly min: number | undefined; readonly max: number | undefined }
  | { readonly kind: "choice"; readonly values: readonly unknown[] }
  | { readonly kind: "json"; readonly type: string | undefined };

/** What is typed into a form, by parameter; "" is "left out". */
export type Typed = Readonly<Record<string, string>>;

export type Parsed = { readonly ok: true; readonly value: unknown } | { readonly ok: false; readonly why: string };

const LONG_TEXT = 200;

export function controlOf(schema: Fields): Control {
  if (Array.isArray(schema.enum)) {
    return { kind: "choice", values: schema.enum };
  }
  const kinds: unknown[] = Array.isArray(schema.type) ? schema.type.filter((type) => type !== "null") : [schema.type];
  const type = kinds.length === 1 ? textOf(kinds[0]) : undefined;
  switch (type) {
    case "boolean":
      return { kind: "choice", values: [true, false] };
    case "string":
      return { kind: "text", long: (numberOf(schema.maxLength) ?? LONG_TEXT + 1) > LONG_TEXT };
    case "integer":
    case "number":
      return { kind: "number", integer: type === "integer", ...limits(schema) };
    default:
      return { kind: "json", type };
  }
}

function limits(schema: Fields): { min: number | undefined; max: number | undefined } {
  return { min: numberOf(schema.minimum), max: numberOf(schema.maximum) };
}

/** What a hint under a control says: type, limits, default. */
export function hintOf(param: Param): string {
  const control = controlOf(param.schema);
  const words = [control.kind === "number" ? (control.integer ? "integer" : "number") : controlWord(control)];
  if (control.kind === "number") {
    const { min, max } = control;
    if (min !== undefined || max !== undefined) {
      words.push(max === undefined ? `from ${grouped(min)}` : `${grouped(min)} to ${grouped(max)}`);
    }
  }
  if (param.schema.default !== undefined && param.schema.default !== null) {
    words.push(`default ${JSON.stringify(param.schema.default)}`);
  }
  return words.filter((word) => word !== "").join(", ");
}

function grouped(value: number | undefined): string {
  return value === undefined ? "…" : value.toLocaleString("en-GB");
}

function controlWord(control: Control): string {
  return control.kind === "json" ? `JSON${control.type === undefined ? "" : ` ${control.type}`}` : "";
}

/** A parameter from its text. Whoever leaves out a required one is told so. */
export function parsed(param: Param, text: string): Parsed | undefined {
  const control = controlOf(param.schema);
  if (text === "" && !(param.required && control.kind === "text")) {
    return param.required ? { ok: false, why: "is required" } : undefined;
  }
  switch (control.kind) {
    case "text":
      return checkedText(param.schema, text);
    case "number":
      return checkedNumber(control, text);
    case "choice":
    case "json":
      return checkedJson(control.kind === "json" ? control.type : undefined, text);
  }
}

function checkedText(schema: Fields, text: string): Parsed {
  const least = numberOf(schema.minLength) ?? 0;
  const most = numberOf(schema.maxLength) ?? Infinity;
  if (text.length < least) {
    return { ok: false, why: least === 1 ? "must not be empty" : `needs at least ${least} characters` };
  }
  return text.length > most ? { ok: false, why: `takes at most ${most} characters` } : { ok: true, value: text };
}

function checkedNumber({ integer, min, max }: Control & { kind: "number" }, text: string): Parsed {
  const value = Number(text);
  if (text.trim() === "" || !Number.isFinite(value)) {
    return { ok: false, why: "must be a number" };
  }
  if (integer && !Number.isSafeInteger(value)) {
    return { ok: false, why: "must be an integer" };
  }
  if (value < (min ?? -Infinity)) {
    return { ok: false, why: `must be at least ${min}` };
  }
  return value > (max ?? Infinity) ? { ok: false, why: `must be at most ${max}` } : { ok: true, value };
}

function checkedJson(type: string | undefined, text: string): Parsed {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    return { ok: false, why: `is not JSON: ${error instanceof Error ? error.message : String(error)}` };
  }
  if (type === "array" && !Array.isArray(value)) {
    return { ok: false, why: "must be a JSON array: [ … ]" };
  }
  if (type === "object" && (typeof value !== "object" || value === null || Array.isArray(value))) {
    return { ok: false, why: "must be a JSON object: { … }" };
  }
  return { ok: true, value };
}

/** All of a form: what to send, or what is wrong, by parameter. */
export function paramsOf(
  params: readonly Param[],
  typed: Typed,
): { readonly params: Fields; readonly wrong: Readonly<Record<string, string>> } {
  const found: Record<string, unknown> = {};
  const wrong: Record<string, string> = {};
  for (const param of params) {
    const result = parsed(param, typed[param.name] ?? "");
    if (result?.ok === true) {
      found[param.name] = result.value;
    } else if (result !== undefined) {
      wrong[param.name] = result.why;
    }
  }
  return { params: found, wrong };
}

/** The texts that mean these params, given by name or by place: for trying a call again. */
export function typedOf(params: readonly Param[], given: unknown): Typed {
  const typed: Record<string, string> = {};
  const byName = fieldsOf(given);
  for (const [place, param] of params.entries()) {
    const value: unknown = Array.isArray(given) ? given[place] : byName[param.name];
    if (value !== undefined) {
      const isText = controlOf(param.schema).kind === "text" && typeof value === "string";
      typed[param.name] = isText ? value : JSON.stringify(value);
    }
  }
  return typed;
}
