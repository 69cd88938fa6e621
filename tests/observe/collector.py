"""A collector of OpenTelemetry: OTLP over HTTP, protobuf, on a port of its own."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.support.timing import PATIENCE


@dataclass(frozen=True, slots=True)
class Span:
    name: str
    trace_id: str
    span_id: str
    parent_id: str
    kind: int
    start: int
    end: int
    failed: bool
    attributes: dict[str, Any]
    service: str
    state: str


class Collector:
    """Keeps the spans that are sent to it, for the length of a ``with`` block."""

    def __init__(self) -> None:
        self._spans: list[Span] = []
        self._news = threading.Condition()
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                assert self.path == "/v1/traces", self.path
                collector._take(self.rfile.read(int(self.headers["Content-Length"])))
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_arguments: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self.endpoint = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Collector:
        self._thread.start()
        return self

    def __exit__(self, _kind: type[BaseException] | None, _error: object, _trace: TracebackType | None) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _take(self, body: bytes) -> None:
        request = ExportTraceServiceRequest.FromString(body)
        with self._news:
            for resource in request.resource_spans:
                service = _attributes(resource.resource.attributes)["service.name"]
                for scope in resource.scope_spans:
                    self._spans += [_span(span, service) for span in scope.spans]
            self._news.notify_all()

    def trace(self, trace_id: str, number: int, without: str = "queue") -> dict[str, Span]:
        """The spans of a trace by id, once there are so many.

        Args:
            without: a name that does not count: spans of waiting are there only where a call had to wait.
        """
        limit = time.monotonic() + PATIENCE
        with self._news:
            while len(found := self._found(trace_id, without)) < number:
                assert time.monotonic() < limit, f"{len(found)} of {number}: {[span.name for span in found.values()]}"
                self._news.wait(0.1)
        return found

    def _found(self, trace_id: str, without: str) -> dict[str, Span]:
        return {span.span_id: span for span in self._spans if span.trace_id == trace_id and span.name != without}

    def count(self) -> int:
        return len(self._spans)


def _span(span: Any, service: str) -> Span:
    return Span(
        span.name,
        span.trace_id.hex(),
        span.span_id.hex(),
        span.parent_span_id.hex(),
        span.kind,
        span.start_time_unix_nano,
        span.end_time_unix_nano,
        span.status.code == 2,
        _attributes(span.attributes),
        service,
        span.trace_state,
    )


def _attributes(pairs: Any) -> dict[str, Any]:
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in pairs}
