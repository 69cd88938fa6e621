/**
 * What a program adds to all its calls, and what it does around them.
 */
import { checkObject } from "./known.js";
import type { Params } from "./messages.js";
import type { CallOptions, StreamOptions } from "./options.js";

/** A call or stream about to be made. */
export interface OutgoingCall {
  readonly method: string;
  readonly params: Params | undefined;
  readonly options: StreamOptions;
  readonly isStream: boolean;
}

/**
 * Stands around every call and stream: may change it, look at its outcome, or answer in its place. `next` gives the promise of
 * a call, or the stream; so does the interceptor.
 */
export type Interceptor = <R>(call: OutgoingCall, next: (call: OutgoingCall) => R) => R;

/** Metadata of every call, or a function that gives it anew for each: a trace context, for example. */
export type DefaultMetadata = CallOptions["metadata"] | (() => CallOptions["metadata"]);

export interface Defaults {
  readonly metadata: DefaultMetadata;
  readonly timeoutMs: number | undefined;
  readonly interceptors: readonly Interceptor[];
}

/** Makes a call with what the program adds to it, through all its interceptors, the first one outermost. */
export function throughAll<R>(defaults: Defaults, call: OutgoingCall, make: (call: OutgoingCall) => R): R {
  const { metadata, timeoutMs, interceptors } = defaults;
  const given = typeof metadata === "function" ? metadata() : metadata;
  const { options } = call;
  checkObject(options);
  const complete = {
    ...call,
    options: {
      ...options,
      timeoutMs: options.timeoutMs ?? (call.isStream ? undefined : timeoutMs),
      metadata: given === undefined ? options.metadata : { ...given, ...options.metadata },
    },
  };
  const from = (index: number) => (outgoing: OutgoingCall): R => {
    const interceptor = interceptors[index];
    return interceptor === undefined ? make(outgoing) : interceptor(outgoing, from(index + 1));
  };
  return from(0)(complete);
}
