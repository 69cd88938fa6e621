"""uvicorn's HTTP protocol with limits: on the size of request heads and the time they take, and on refused bodies."""

from __future__ import annotations

import asyncio
import weakref
from typing import TYPE_CHECKING, Any, Final

from typing_extensions import override
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from trunkline.edge.http.request_head import RequestHeads, answering
from trunkline.edge.http.wire import WIRE, Wire
from trunkline.edge.refusal import Refusal
from trunkline.hub.shares import Share
from trunkline_protocol.errors import RpcError
from trunkline_protocol.request_ids import request_id_for

if TYPE_CHECKING:
    from starlette.types import ASGIApp

MAX_HEAD_BYTES: Final = 64 * 1024
HEAD_TIMEOUT: Final = 10.0
"""Seconds until the head of a request must be complete."""

REFUSED_HEAD_TIMEOUT: Final = 1.0
"""The same for a socket whose address has too many: it is kept open only to be told so."""

LINGER_SECONDS: Final = 5.0
"""How long a peer may go on sending a body that was refused: cut off at once, it would not read the response."""

_TOO_LARGE: Final = b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


class BoundedHttpProtocol(HttpToolsProtocol):
    """Counts what arrives until a request's head is complete (431 beyond the limit), and how long that takes.

    Where an answer comes before its request was read whole, the rest is read and dropped, for :data:`LINGER_SECONDS` at
    most; if the answer was to end the connection, it is followed by a half-close.

    Args:
        heads: checks each request's head before the application, or the WebSocket door, sees it; None accepts all.
    """

    _head_bytes = 0
    _in_head = True
    _ending = False
    _timer: asyncio.TimerHandle | None = None
    _wire: Wire
    _unanswered: list[RequestResponseCycle]
    _refusal: ASGIApp | None = None
    _of_address: Share | None = None
    _too_many: ASGIApp | None = None

    def __init__(self, *args: Any, heads: RequestHeads | None = None, **options: Any) -> None:
        super().__init__(*args, **options)
        self._heads = heads

    @override
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's
        super().connection_made(transport)
        self._wire = Wire(transport)
        self._unanswered: list[RequestResponseCycle] = []
        self._timer = self.loop.call_later(HEAD_TIMEOUT, transport.abort)
        self._take_in()

    def _take_in(self) -> None:
        """Count the socket in its address's share; where that has too many, its first request is answered with that."""
        peer = None if self._heads is None else self._heads.own_address(self.client)
        if self._heads is None or peer is None:
            return
        try:
            self._of_address = self._heads.shares.add_socket(peer)
        except RpcError as error:
            self._too_many = answering(Refusal(peer, error, request_id_for(None)))
            self._stop_timer()
            self._timer = self.loop.call_later(REFUSED_HEAD_TIMEOUT, self.transport.abort)

    def _let_go(self) -> None:
        if self._of_address is not None:
            self._of_address.sockets -= 1
            self._of_address = None

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        self._let_go()
        self._wire.on_lost()
        for cycle in self._unanswered:  # uvicorn tells the last one only, but it may be an earlier one that runs
            cycle.disconnected = True
            cycle.message_event.set()
        super().connection_lost(exc)
        # The cycle refers to this protocol as well: a reference back would keep both until a garbage collection, which
        # stops the whole loop.
        self.cycle, self._unanswered = None, []  # type: ignore[assignment]  # uvicorn sets it to None as well

    @override
    def handle_websocket_upgrade(self) -> None:
        self._let_go()  # as a WebSocket it is a connection, and counts as that
        super().handle_websocket_upgrade()
        self.parser = None  # type: ignore[assignment]  # as uvicorn does at the end; the parser refers to this object

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    @override
    def data_received(self, data: bytes) -> None:
        goes_on = self._in_head
        super().data_received(data)
        if goes_on and self._in_head:  # once the head is complete, the rest is a body
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self.transport.write(_TOO_LARGE)
                self.transport.close()

    @override
    def on_message_begin(self) -> None:
        self._in_head, self._head_bytes = True, 0
        if self._timer is None:  # a further request of a kept-alive connection
            self._timer = self.loop.call_later(HEAD_TIMEOUT, self.transport.abort)
        super().on_message_begin()
        self.scope[WIRE] = self._wire  # type: ignore[typeddict-unknown-key]  # ASGI leaves room for servers' own

    @override
    def on_headers_complete(self) -> None:
        if self._ending:
            return  # the last response closes the connection
        self._in_head = False
        self._stop_timer()
        before = self.cycle
        self._judge()
        super().on_headers_complete()
        if self.cycle is not before:  # no upgrade
            self._unanswered.append(self.cycle)
            self.cycle.transport = _Ending(self, self.cycle)  # type: ignore[assignment]  # what a response needs of one

    def _judge(self) -> None:
        """Determine the request's origin; where its head is not valid, replace the application by a refusal."""
        if self._heads is None:
            return
        forwarded_for = [value.decode("latin-1") for name, value in self.headers if name == b"x-forwarded-for"]
        self.scope["client"] = peer = self._heads.origin(self.client, forwarded_for)
        self._refusal = self._too_many or self._heads.refusal(
            peer, self.url, self.parser.get_http_version(), self.headers
        )
        self.app = self.config.loaded_app if self._refusal is None else self._refusal

    @override
    def _should_upgrade(self) -> bool:
        return self._refusal is None and super()._should_upgrade()

    @override
    def _unsupported_upgrade_warning(self) -> None:
        if self._refusal is None:  # else the refusal was logged already
            super()._unsupported_upgrade_warning()

    @override
    def on_response_complete(self) -> None:
        if self.cycle.response_complete and self.cycle.more_body:
            self._linger()
        self._unanswered = [cycle for cycle in self._unanswered if not cycle.response_complete]
        super().on_response_complete()

    @override
    def on_message_complete(self) -> None:
        if self._ending:
            self.transport.close()
            return
        self._stop_timer()
        super().on_message_complete()

    def end(self, cycle: RequestResponseCycle) -> None:
        """End the connection after its last response: at once, or by a half-close while the request still arrives."""
        if not cycle.more_body or self.transport.is_closing():
            self.transport.close()
        elif not self._ending:
            self._ending = True
            if self.transport.can_write_eof():  # TLS has no half-close
                self.transport.write_eof()
            self._linger()

    def _linger(self) -> None:
        self._stop_timer()
        self._timer = self.loop.call_later(LINGER_SECONDS, self.transport.abort)


class _Ending:
    """The transport that a response is written to: its ``close`` lets the peer read the response first.

    The response refers to this object and the protocol to the response, so this object has weak references only.
    """

    __slots__ = ("_cycle", "_protocol", "is_closing", "write")

    def __init__(self, protocol: BoundedHttpProtocol, cycle: RequestResponseCycle) -> None:
        transport = protocol.transport
        self._protocol = weakref.ref(protocol)
        self._cycle = weakref.ref(cycle)
        self.write: Any = transport.write
        self.is_closing: Any = transport.is_closing

    def close(self) -> None:
        """Close the connection by :meth:`BoundedHttpProtocol.end`."""
        protocol, cycle = self._protocol(), self._cycle()
        if protocol is not None and cycle is not None:
            protocol.end(cycle)
