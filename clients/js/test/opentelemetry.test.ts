/**
 * Traces, with OpenTelemetry's own API and SDK: who is below whom, how spans end, and what the wire carries.
 */
import assert from "node:assert/strict";
import { after, before, beforeEach, test } from "node:test";
import * as api from "@opentelemetry/api";
import { AsyncLocalStorageContextManager } from "@opentelemetry/context-async-hooks";
import { W3CTraceContextPropagator } from "@opentelemetry/core";
import { BasicTracerProvider, InMemorySpanExporter, SimpleSpanProcessor, type ReadableSpan } from "@opentelemetry/sdk-trace-base";
import { connect, RpcError, type Hub } from "../src/index.js";
import { traced, tracedHandler } from "../src/opentelemetry.js";
import { MockHub } from "../src/testing/index.js";
import { SKIP_WITHOUT_LAB, startHub } from "./support/real-hub.js";

import { rejection } from "./support/scripted.js";

const exporter = new InMemorySpanExporter();

before(() => {
  api.context.setGlobalContextManager(new AsyncLocalStorageContextManager().enable());
  api.propagation.setGlobalPropagator(new W3CTraceContextPropagator());
  api.trace.setGlobalTracerProvider(new BasicTracerProvider({ spanProcessors: [new SimpleSpanProcessor(exporter)] }));
});

beforeEach(() => {
  exporter.reset();
});

after(() => {
  api.context.disable();
  api.propagation.disable();
  api.trace.disable();
});

function ended(name: string, kind: api.SpanKind): ReadableSpan {
  const found = exporter.getFinishedSpans().filter((span) => span.name === name && span.kind === kind);
  assert.equal(found.length, 1, `${name}: ${found.length} spans`);
  return found[0] as ReadableSpan;
}

function idOf(span: ReadableSpan): string {
  return span.spanContext().spanId;
}

async function* numbers(): AsyncGenerator<number, string> {
  yield 1;
  await Promise.resolve();
  yield 2;
  return "done";
}

function mockHub(): MockHub {
  return new MockHub()
    .method("where", (_params, { metadata }) => metadata)
    .method("bad", () => {
      throw new RpcError({ code: 4321, message: "no" });
    })
    .method("numbers", () => numbers());
}

test("a call is a span below the active one, and its traceparent goes along", async () => {
  const hub = await mockHub().connect({ interceptors: [traced(api)] });
  const tracer = api.trace.getTracer("program");
  const metadata = await tracer.startActiveSpan("work", async (work) => {
    const got = await hub.call<Record<string, string>>("where", {}, { metadata: { tag: "a" } });
    work.end();
    return got;
  });
  const call = ended("where", api.SpanKind.CLIENT);
  const work = ended("work", api.SpanKind.INTERNAL);
  assert.equal(call.parentSpanContext?.spanId, idOf(work));
  assert.deepEqual(metadata, { tag: "a", traceparent: `00-${work.spanContext().traceId}-${idOf(call)}-01` });
  assert.deepEqual(call.attributes, { "rpc.system.name": "jsonrpc", "rpc.method": "where" });
  assert.equal(call.status.code, api.SpanStatusCode.UNSET);
  await hub.close();
});

test("a call that fails says with what", async () => {
  const hub = await mockHub().connect({ interceptors: [traced(api)] });
  await rejection(hub.call("bad"));
  const { status, attributes } = ended("bad", api.SpanKind.CLIENT);
  assert.equal(status.code, api.SpanStatusCode.ERROR);
  assert.deepEqual([attributes["error.type"], attributes["rpc.response.status_code"]], ["APPLICATION_ERROR", "4321"]);
  assert.throws(() => hub.stream("numbers", {}, { priority: 1n as never }), TypeError);
  assert.equal(ended("numbers", api.SpanKind.CLIENT).attributes["error.type"], "TypeError");
  await hub.close();
});

test("a stream's span ends with its loop, however that ends, or with its result", async () => {
  const hub = await mockHub().connect({ interceptors: [traced(api)] });
  const seen: unknown[] = [];
  const stream = hub.stream("numbers");
  for await (const { data } of stream) {
    assert.deepEqual(exporter.getFinishedSpans(), []);
    seen.push(data);
  }
  assert.deepEqual([seen, await stream.result], [[1, 2], "done"]);
  assert.equal(ended("numbers", api.SpanKind.CLIENT).status.code, api.SpanStatusCode.UNSET);
  exporter.reset();
  for await (const { index } of hub.stream("numbers")) {
    assert.equal(index, 0);
    break;
  }
  ended("numbers", api.SpanKind.CLIENT);
  exporter.reset();
  assert.equal(await hub.stream("numbers").result, "done");
  ended("numbers", api.SpanKind.CLIENT);
  exporter.reset();
  await rejection(
    (async () => {
      for await (const { index } of hub.stream("bad")) {
        assert.fail(String(index));
      }
    })(),
  );
  assert.equal(ended("bad", api.SpanKind.CLIENT).attributes["error.type"], "APPLICATION_ERROR");
  await hub.close();
});

test("a served method is below its caller, and what it calls is below it", async () => {
  const mock = mockHub();
  const serving: Hub = await mock.connect({ interceptors: [traced(api)] });
  await serving.register("outer", tracedHandler(api, "outer", () => serving.call("where")));
  await serving.register("each", tracedHandler(api, "each", async function* each() {
    yield await serving.call("where");
  }), { streaming: true });
  await serving.register("fails", tracedHandler(api, "fails", () => Promise.reject(new RangeError("far"))));
  const calling = await mock.connect({ interceptors: [traced(api)] });

  await calling.call("outer");
  const [outer, served, inner] = [ended("outer", api.SpanKind.CLIENT), ended("outer", api.SpanKind.SERVER), ended("where", api.SpanKind.CLIENT)];
  assert.deepEqual([served.parentSpanContext?.spanId, inner.parentSpanContext?.spanId], [idOf(outer), idOf(served)]);

  exporter.reset();
  for await (const { data } of calling.stream("each")) {
    assert.notEqual(data, undefined);
  }
  assert.equal(ended("where", api.SpanKind.CLIENT).parentSpanContext?.spanId, idOf(ended("each", api.SpanKind.SERVER)));

  await rejection(calling.call("fails"));
  assert.equal(ended("fails", api.SpanKind.SERVER).attributes["error.type"], "RangeError");
  await Promise.all([serving.close(), calling.close()]);
});

test("a method in Python, behind a real hub, is told of the trace", { skip: SKIP_WITHOUT_LAB }, async () => {
  const real = await startHub({ lab: true });
  try {
    const hub = await connect(real.url, { interceptors: [traced(api)] });
    const { metadata } = await hub.call<{ metadata: { traceparent: string } }>("lab.where");
    const { traceId } = ended("lab.where", api.SpanKind.CLIENT).spanContext();
    assert.equal(metadata.traceparent.split("-")[1], traceId);
    await hub.close();
  } finally {
    await real.stop();
  }
});
