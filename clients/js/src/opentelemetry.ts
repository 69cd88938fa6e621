/**
 * Spans of OpenTelemetry around calls, streams and served methods, with their trace context on the wire.
 *
 * Nothing of OpenTelemetry is imported: the program hands its `@opentelemetry/api` in, and without an SDK that costs nothing.
 *
 * @packageDocumentation
 */
import type { Handler, ServedCall } from "./callee.js";
import type { Interceptor } from "./intercepting.js";
import { isAsyncIterable } from "./iterables.js";
import type { ResultStream } from "./stream.js";

/** What is used of a span. */
export interface TraceSpan {
  setAttribute(name: string, value: string): unknown;
  setStatus(status: { code: number; message?: string }): unknown;
  end(): void;
}

/** What is used of `@opentelemetry/api`: `import * as api from "@opentelemetry/api"`. */
export interface TracingApi {
  readonly trace: {
    getTracer(name: string): {
      startSpan(name: string, options: { kind: number; attributes: Record<string, string> }, context?: never): TraceSpan;
    };
    setSpan(context: never, span: never): unknown;
  };
  readonly context: { active(): unknown; with<R>(context: never, run: () => R): R };
  readonly propagation: { inject(context: never, carrier: unknown): void; extract(context: never, carrier: unknown): unknown };
}

/** Of `SpanKind` and `SpanStatusCode`. */
const [SERVER, CLIENT, ERROR] = [1, 2, 2];

/**
 * An interceptor for `connect(url, { interceptors: [traced(api)] })`: each call and stream is a span of kind CLIENT below the
 * active one, and its `traceparent` goes along. A stream's span ends with its loop, or when its `result` settles.
 */
export function traced(api: TracingApi): Interceptor {
  return (call, next) => {
    const span = new Traced(api, call.method, CLIENT);
    const metadata: Record<string, unknown> = { ...call.options.metadata };
    api.propagation.inject(span.context, metadata);
    const outcome = span.run(() => next({ ...call, options: { ...call.options, metadata } }));
    if (outcome instanceof Promise) {
      void span.endWith(outcome);
      return outcome;
    }
    // Only a stream is no promise; what stands around it is one, too.
    return new TracedStream(outcome as ResultStream, span) as typeof outcome;
  };
}

/**
 * A handler for `hub.register(method, tracedHandler(api, method, handler))`: each call is a span of kind SERVER below that of its
 * caller, and what the handler does is below it: its calls, too, on a hub that is `traced`.
 */
export function tracedHandler<P>(api: TracingApi, method: string, handler: Handler<P>): Handler<P> {
  return (params: P, call: ServedCall): unknown => {
    const span = new Traced(api, method, SERVER, call.metadata);
    const outcome = span.run(() => handler(params, call));
    if (isAsyncIterable(outcome)) {
      return span.iterate(outcome[Symbol.asyncIterator]());
    }
    const settled = Promise.resolve(outcome);
    void span.endWith(settled);
    return settled;
  };
}

/** A span that has begun, and ends once. */
class Traced {
  readonly context: never;
  readonly #api: TracingApi;
  readonly #span: TraceSpan;
  #isOver = false;

  /** @param caller the metadata of who is above it; without them it is the active span. */
  constructor(api: TracingApi, method: string, kind: number, caller?: object) {
    const active = api.context.active() as never;
    const above = caller === undefined ? active : (api.propagation.extract(active, caller) as never);
    const attributes = { "rpc.system.name": "jsonrpc", "rpc.method": method };
    this.#api = api;
    this.#span = api.trace.getTracer("trunkline").startSpan(method, { kind, attributes }, above);
    this.context = api.trace.setSpan(above, this.#span as never) as never;
  }

  /** Runs something below the span; what it throws ends it. */
  run<R>(work: () => R): R {
    try {
      return this.#api.context.with(this.context, work);
    } catch (error) {
      this.end(error);
      throw error;
    }
  }

  /** Ends it when a promise settles. */
  async endWith(outcome: Promise<unknown>): Promise<void> {
    try {
      await outcome;
      this.end();
    } catch (error) {
      this.end(error ?? "undefined");
    }
  }

  /** Ends it, unless it has ended: well, or with what went wrong. */
  end(error?: unknown): void {
    if (this.#isOver) {
      return;
    }
    this.#isOver = true;
    if (error !== undefined) {
      const { code, errorName, name } = error as { code?: unknown; errorName?: string; name?: string };
      const type = errorName ?? name ?? typeof error;
      this.#span.setAttribute("error.type", type);
      if (typeof code === "number") {
        this.#span.setAttribute("rpc.response.status_code", String(code));
      }
      this.#span.setStatus({ code: ERROR, message: type });
    }
    this.#span.end();
  }

  /** The same items, each made below the span, which ends with the last of them. */
  iterate<T, R>(items: AsyncIterator<T, R>): AsyncIterableIterator<T, R> {
    const step = async (make: () => Promise<IteratorResult<T, R>>): Promise<IteratorResult<T, R>> => {
      try {
        const made = await this.run(make);
        if (made.done === true) {
          this.end();
        }
        return made;
      } catch (error) {
        this.end(error);
        throw error;
      }
    };
    return {
      next: () => step(() => items.next()),
      return: (value) => step(() => items.return?.(value) ?? Promise.resolve({ done: true, value: value as R })),
      [Symbol.asyncIterator]() {
        return this;
      },
    };
  }
}

class TracedStream implements ResultStream {
  readonly #stream: ResultStream;
  readonly #span: Traced;

  constructor(stream: ResultStream, span: Traced) {
    this.#stream = stream;
    this.#span = span;
  }

  /** Looked at only where the program does: who asks for the result alone has the chunks dropped. */
  get result(): Promise<unknown> {
    const { result } = this.#stream;
    void this.#span.endWith(result);
    return result;
  }

  [Symbol.asyncIterator](): ReturnType<ResultStream[typeof Symbol.asyncIterator]> {
    return this.#span.iterate(this.#stream[Symbol.asyncIterator]());
  }
}
