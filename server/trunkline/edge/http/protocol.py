"""uvicorn's HTTP protocol with limits: on heads, endless or never coming, and on bodies that nobody wants."""

from __future__ import annotations

import asyncio
import weakref
from typing import TYPE_CHECKING, Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from trunkline.edge.http.request_head import RequestHeads
from trunkline.edge.http.wire import WIRE, Wire

if TYPE_CHECKING:
    from starlette.types import ASGIApp

MAX_HEAD_BYTES: Final = 64 * 1024
HEAD_TIMEOUT: Final = 10.0
"""Seconds until the head of a request must be complete."""

LINGER_SECONDS: Final = 5.0
"""How long a peer may go on sending a body that was refused. Cut off at once, it would never read why."""

_TOO_LARGE: Final = b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


class BoundedHttpProtocol(HttpToolsProtocol):
    """Counts what arrives until a request's head is complete (431 beyond the limit), and how long that takes.

    Where an answer comes before its request was read whole, the rest is read and dropped, for :data:`LINGER_SECONDS` at
    most; if the answer was to end the connection, it is followed by a half-close.

    Args:
        heads: judges each request's head before the application, or a WebSocket's door, sees it; None lets all in.
    """

    _head_bytes = 0
    _in_head = True
    _ending = False
    _timer: asyncio.TimerHandle | None = None
    _wire: Wire
    _unanswered: list[RequestResponseCycle]
    _refusal: ASGIApp | None = None

    def __init__(self, *args: Any, heads: RequestHeads | None = None, **options: Any) -> None:
        super().__init__(*args, **options)
        self._heads = heads

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's
        """Called by the event loop."""
        super().connection_made(transport)
        self._wire = Wire(transport)
        self._unanswered: list[RequestResponseCycle] = []
        self._timer = self.loop.call_later(HEAD_TIMEOUT, transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the event loop."""
        self._stop_timer()
        for cycle in self._unanswered:  # uvicorn tells the last one only, but it may be an earlier one that runs
            cycle.disconnected = True
            cycle.message_event.set()
        super().connection_lost(exc)
        # What runs an answer has this protocol, too: with it this would stay until a collection, which stops everybody.
        self.cycle, self._unanswered = None, []  # type: ignore[assignment]  # uvicorn sets it to None as well

    def handle_websocket_upgrade(self) -> None:
        """Called when the head of an upgrade is complete: from now on another protocol has the socket."""
        super().handle_websocket_upgrade()
        self.parser = None  # type: ignore[assignment]  # as uvicorn does at the end; it has this object

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def data_received(self, data: bytes) -> None:
        """Bytes from the socket."""
        goes_on = self._in_head
        super().data_received(data)
        if goes_on and self._in_head:  # where the head was complete in it, the rest was a body
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self.transport.write(_TOO_LARGE)
                self.transport.close()

    def on_message_begin(self) -> None:
        """Called by the parser."""
        self._in_head, self._head_bytes = True, 0
        if self._timer is None:  # a further request of a connection that was kept
            self._timer = self.loop.call_later(HEAD_TIMEOUT, self.transport.abort)
        super().on_message_begin()
        self.scope[WIRE] = self._wire  # type: ignore[typeddict-unknown-key]  # ASGI leaves room for servers' own

    def on_headers_complete(self) -> None:
        """Called by the parser."""
        if self._ending:
            return  # the last answer said that nothing more is taken
        self._in_head = False
        self._stop_timer()
        before = self.cycle
        self._judge()
        super().on_headers_complete()
        if self.cycle is not before:  # no upgrade
            self._unanswered.append(self.cycle)
            self.cycle.transport = _Ending(self, self.cycle)  # type: ignore[assignment]  # what a response needs of one

    def _judge(self) -> None:
        """Find out whose request it is, and put what refuses it in the application's place where it cannot be."""
        if self._heads is None:
            return
        forwarded_for = [value.decode("latin-1") for name, value in self.headers if name == b"x-forwarded-for"]
        self.scope["client"] = peer = self._heads.origin(self.client, forwarded_for)
        self._refusal = self._heads.refusal(peer, self.url, self.parser.get_http_version(), self.headers)
        self.app = self.config.loaded_app if self._refusal is None else self._refusal

    def _should_upgrade(self) -> bool:
        return self._refusal is None and super()._should_upgrade()

    def _unsupported_upgrade_warning(self) -> None:
        if self._refusal is None:  # else all is said
            super()._unsupported_upgrade_warning()

    def on_response_complete(self) -> None:
        """Called by uvicorn when an answer is written."""
        if self.cycle.response_complete and self.cycle.more_body:
            self._linger()
        self._unanswered = [cycle for cycle in self._unanswered if not cycle.response_complete]
        super().on_response_complete()

    def on_message_complete(self) -> None:
        """Called by the parser."""
        if self._ending:
            self.transport.close()
            return
        self._stop_timer()
        super().on_message_complete()

    def end(self, cycle: RequestResponseCycle) -> None:
        """The answer is written, and was the connection's last."""
        if not cycle.more_body or self.transport.is_closing():
            self.transport.close()
        elif not self._ending:
            self._ending = True
            self.transport.write_eof()
            self._linger()

    def _linger(self) -> None:
        self._stop_timer()
        self._timer = self.loop.call_later(LINGER_SECONDS, self.transport.abort)


class _Ending:
    """What a response is written to: a transport whose ``close`` lets the peer read the answer.

    The response has this, and the protocol has the response: both are known by weak references.
    """

    __slots__ = ("_cycle", "_protocol", "is_closing", "write")

    def __init__(self, protocol: BoundedHttpProtocol, cycle: RequestResponseCycle) -> None:
        transport = protocol.transport
        self._protocol = weakref.ref(protocol)
        self._cycle = weakref.ref(cycle)
        self.write: Any = transport.write
        self.is_closing: Any = transport.is_closing

    def close(self) -> None:
        """See :meth:`BoundedHttpProtocol.end`."""
        protocol, cycle = self._protocol(), self._cycle()
        if protocol is not None and cycle is not None:
            protocol.end(cycle)
