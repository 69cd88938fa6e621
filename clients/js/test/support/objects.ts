/**
 * A Standard Schema written by hand: objects whose members have the types that are named.
 */
import type { Issue, StandardSchema } from "trunkline/schema";

interface Kinds {
  readonly string: string;
  readonly number: number;
}

type ObjectOf<M> = { readonly [K in keyof M]: M[K] extends keyof Kinds ? Kinds[M[K]] : never };

/** With JSON Schema, unless `options.json` is false; `options.later` validates asynchronously. */
export function objectOf<const M extends Readonly<Record<string, keyof Kinds>>>(
  members: M,
  options: { readonly json?: boolean; readonly later?: boolean } = {},
): StandardSchema<ObjectOf<M>> {
  const outcome = (value: unknown): { value: ObjectOf<M> } | { issues: Issue[] } => {
    if (typeof value !== "object" || value === null) {
      return { issues: [{ message: "no object" }] };
    }
    const wrong = Object.entries(members).filter(([name, kind]) => typeof (value as Record<string, unknown>)[name] !== kind);
    const issues = wrong.map(([name, kind]) => ({ message: `no ${kind}`, path: [{ key: name }] }));
    return issues.length > 0 ? { issues } : { value: value as ObjectOf<M> };
  };
  const properties = Object.fromEntries(Object.entries(members).map(([name, type]) => [name, { type }]));
  const json = (): Record<string, unknown> => ({ type: "object", properties, required: Object.keys(members) });
  return {
    "~standard": {
      version: 1,
      vendor: "test",
      validate: (value) => (options.later === true ? Promise.resolve().then(() => outcome(value)) : outcome(value)),
      ...(options.json === false ? {} : { jsonSchema: { input: json, output: json } }),
    },
  };
}
