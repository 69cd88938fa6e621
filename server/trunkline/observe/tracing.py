"""Spans of calls, exported over OTLP. Imported only where an endpoint is set; needs the extra ``[otel]``.

A call is three spans, or four where it waited, all made when it has ended, from what the hub knows by then::

    rag.execute                    SERVER, from receipt to outcome; below the caller's, or the first of a new trace
    ├── queue                      while it waited
    └── executor-1                 from there to its outcome
        └── rag.execute            while the method ran; what it calls, and its own spans, are below this one

The method's span is known beforehand: its ``traceparent`` is in the metadata that the executor gets, and that nested
calls inherit. Executors therefore export nothing, and load nothing.
"""

from __future__ import annotations

import logging
import os
import random
import time
from collections.abc import Mapping
from typing import Any, Final

import msgspec
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState

from trunkline.observe.metrics import error_name
from trunkline.version import __version__
from trunkline_protocol.calls import Call
from trunkline_protocol.traces import SPAN_ID_BITS, TRACE_ID_BITS, TraceContext, begin, parse

QUEUE_SPANS: Final = 16_384
"""Spans that may wait to be exported; more are dropped, and the SDK says so in the log."""

BATCH_SPANS: Final = 1_024
OTHER: Final = "_OTHER"
"""The ``rpc.method`` of names that nobody serves, by OpenTelemetry's conventions."""

MAX_ORIGINAL_CHARS: Final = 200

logger = logging.getLogger("trunkline.tracing")
_decoder: Final = msgspec.json.Decoder(dict[str, Any])
_encoder: Final = msgspec.json.Encoder()


class Tracer:
    """Gives calls their place in a trace, and exports their spans.

    Args:
        endpoint: base of an OTLP/HTTP endpoint, to which ``/v1/traces`` is added; None for the SDK's own environment.
        ratio: of the traces that begin here, how many are recorded; who comes with a trace has decided that.
        exporter: where spans go, for tests.
    """

    def __init__(self, endpoint: str | None, ratio: float = 1.0, exporter: SpanExporter | None = None) -> None:
        url = None if endpoint is None else endpoint.rstrip("/") + "/v1/traces"
        self._processor = BatchSpanProcessor(
            exporter or OTLPSpanExporter(endpoint=url), max_queue_size=QUEUE_SPANS, max_export_batch_size=BATCH_SPANS
        )
        service = {} if "OTEL_SERVICE_NAME" in os.environ else {"service.name": "trunkline"}
        self._resource = Resource.create(service | {"service.version": __version__})
        self._scope = InstrumentationScope("trunkline", __version__)
        self._ratio = ratio
        self._bits = random.SystemRandom().getrandbits
        self._fraction = random.Random().random  # noqa: S311  # which traces are recorded is no secret

    def begin(self, call: Call) -> None:
        """Give a call its place in a trace: ``call.trace``, and the ``traceparent`` that its executor gets."""
        metadata = _metadata(call)
        if metadata is None:
            return  # which the caller is told where the call is routed
        traceparent = metadata.get("traceparent")
        above = parse(traceparent) if isinstance(traceparent, str) else None
        if above is None:
            metadata.pop("tracestate", None)  # it belongs to the trace that is not there
            sampled = self._ratio >= 1 or self._fraction() < self._ratio
            call.trace = begin(self._bits(TRACE_ID_BITS), self._bits(SPAN_ID_BITS), sampled=sampled)
        else:
            call.trace = above.child(self._bits(SPAN_ID_BITS)) if above.sampled else above
            if not above.sampled:
                return  # it is handed on as it is
        work = call.trace.child(self._bits(SPAN_ID_BITS))
        if traceparent is None or isinstance(traceparent, str):
            call.metadata = _encoder.encode(metadata | {"traceparent": work.traceparent()})

    def finished(self, call: Call, method: str | None, seconds: float, code: int) -> None:
        """Export the spans of a call that has ended.

        Args:
            method: its key; None where nobody serves it.
            seconds: from receipt to outcome.
            code: 0 for success.
        """
        trace = call.trace
        if trace is None or not trace.sampled:
            return
        name = OTHER if method is None else call.method
        end = time.time_ns()
        start = end - int(seconds * 1e9)
        status, outcome = _outcome(code)
        attributes = {
            "rpc.system.name": "jsonrpc",
            "jsonrpc.protocol.version": "2.0",
            "rpc.method": name,
            "trunkline.depth": call.depth,
            **({} if method else {"rpc.method_original": call.method[:MAX_ORIGINAL_CHARS]}),
            **_origin(call),
            **outcome,
        }
        self._export(call, name, trace, start, end, attributes, SpanKind.SERVER, status)
        begun = start + int(call.waited * 1e9)
        if call.waited:
            queue = trace.child(self._bits(SPAN_ID_BITS))
            self._export(call, "queue", queue, start, min(begun, end), {"rpc.method": name})
        executor = getattr(call.executor, "name", None)
        if executor is not None:
            self._export_execution(call, executor, begun, end, status, outcome)

    def _export_execution(
        self, call: Call, name: str, begun: int, end: int, status: Status, outcome: Mapping[str, str]
    ) -> None:
        assert call.trace is not None
        executor = call.trace.child(self._bits(SPAN_ID_BITS))
        attributes: dict[str, str | int] = {"trunkline.executor": name, "trunkline.attempts": call.attempts}
        pid = getattr(call.executor, "pid", None)
        if pid is not None:
            attributes["process.pid"] = pid
        self._export(call, name, executor, begun, end, attributes)
        work = parse((_metadata(call) or {}).get("traceparent") or "")
        if work is not None:
            run = TraceContext(work.trace_id, work.span_id, work.flags, executor.span_id)
            started = max(begun, end - int(call.ran * 1e9)) if call.ran else begun
            self._export(call, call.method, run, started, end, {**attributes, **outcome}, SpanKind.INTERNAL, status)

    def _export(
        self,
        call: Call,
        name: str,
        place: TraceContext,
        start: int,
        end: int,
        attributes: Mapping[str, str | int],
        kind: SpanKind = SpanKind.INTERNAL,
        status: Status = Status(StatusCode.UNSET),  # noqa: B008  # immutable
    ) -> None:
        trace_id = int(place.trace_id, 16)
        flags = TraceFlags(place.flags)
        state = _state(call)
        parent = SpanContext(trace_id, int(place.parent_id, 16), True, flags, state) if place.parent_id else None
        self._processor.on_end(
            ReadableSpan(
                name,
                SpanContext(trace_id, int(place.span_id, 16), False, flags, state),
                parent,
                self._resource,
                attributes,
                kind=kind,
                status=status,
                start_time=start,
                end_time=max(start, end),
                instrumentation_scope=self._scope,
            )
        )

    def stop(self) -> None:
        """Export what waits; gives up on an endpoint that does not answer. Blocks: not for the event loop."""
        self._processor.shutdown()  # type: ignore[no-untyped-call]


def _metadata(call: Call) -> dict[str, Any] | None:
    """The call's metadata; None where it is no object."""
    if not call.metadata:
        return {}
    try:
        return _decoder.decode(call.metadata)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _state(call: Call) -> TraceState | None:
    """The ``tracestate`` of the call: what other vendors have written into the trace."""
    if b'"tracestate"' not in call.metadata:
        return None
    state = (_metadata(call) or {}).get("tracestate")
    return TraceState.from_header([state]) if isinstance(state, str) else None


def _outcome(code: int) -> tuple[Status, dict[str, str]]:
    if not code:
        return Status(StatusCode.UNSET), {}
    name = error_name(code)
    return Status(StatusCode.ERROR, name), {"error.type": name, "rpc.response.status_code": str(code)}


def _origin(call: Call) -> dict[str, str | int]:
    """The span attributes of a call's request id and connection, where it has them."""
    request_id = getattr(call, "id", None)
    connection = getattr(call, "connection", None)
    said: dict[str, str | int] = {} if request_id is None else {"jsonrpc.request.id": str(request_id)[:128]}
    if connection is not None:
        said |= {"network.peer.address": connection.peer, "trunkline.connection": connection.number}
    return said
