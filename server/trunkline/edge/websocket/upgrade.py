"""The hand-over from uvicorn to picows, when an HTTP connection becomes a WebSocket."""

from __future__ import annotations

import asyncio
import functools
import re
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any, Final

from picows import WSUpgradeRequest, WSUpgradeResponseWithListener
from typing_extensions import override

from trunkline.background import start_task
from trunkline.edge.access.rules import UNIX
from trunkline.edge.http.request_head import FORWARDED_FOR, Address, RequestHeads
from trunkline.edge.transport import FramingErrors, LingeringTransport, feed, picows_protocol
from trunkline.edge.websocket.door import WebSocketDoor
from trunkline.edge.websocket.listener import WebSocketListener
from trunkline.edge.websocket.refusing_listener import RefusingListener
from trunkline.hub.principal import AnsweredHandshake, Handshake

# uvicorn has found "upgrade" among the tokens; picows accepts it only alone, but Firefox sends "keep-alive, Upgrade".
_CONNECTION: Final = re.compile(rb"(\r\nconnection:)[^\r\n]*\r\n", re.IGNORECASE)

MAX_HELD_BYTES: Final = 16 * 1024
"""With more bytes than this waiting for the authenticate hook the peer is not read."""


class UpgradeProtocol(asyncio.Protocol):
    """Takes an upgrade from uvicorn and hands the transport to picows.

    uvicorn calls ``connection_made``, then ``data_received`` with the request, and sets this object as the
    transport's protocol right after; picows' protocol is therefore set from ``call_soon``, and whatever arrives in
    between is passed on. Where the hub first has to wait for the authenticate hook, picows gets the request after
    that, and what arrived meanwhile behind it.
    """

    def __init__(self, door: WebSocketDoor, heads: RequestHeads | None = None, **_uvicorn: Any) -> None:
        self._door = door
        self._heads = heads or RequestHeads()
        self._address: Address | None = None
        self._certificate: Mapping[str, Any] | None = None
        self._socket: asyncio.Transport | None = None
        self._transport: LingeringTransport | None = None
        self._listener: WebSocketListener | RefusingListener | None = None
        self._asking: asyncio.Task[AnsweredHandshake] | None = None
        self._answered: Handshake | None = None
        self._held = bytearray()

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        peername = transport.get_extra_info("peername")
        if isinstance(peername, tuple):
            self._address = peername[0], peername[1]
        self._certificate = transport.get_extra_info("peercert") or None
        self._socket = transport  # type: ignore[assignment]  # uvloop's is an asyncio.Transport by shape only

    def _begin(self, request: bytes) -> LingeringTransport:
        """Give the request to picows."""
        assert self._socket is not None
        socket, self._socket = self._socket, None  # the transport below has it
        picows = picows_protocol(self._accept, self._door.context.max_message_bytes, FramingErrors(self._frame_refused))
        self._transport = LingeringTransport(socket, picows, self._ending)
        picows.connection_made(self._transport)
        feed(picows, _CONNECTION.sub(b"\\1Upgrade\r\n", request, count=1))
        return self._transport

    def _accept(self, request: WSUpgradeRequest) -> WSUpgradeResponseWithListener:
        peer = self._peer([value for name, value in request.headers.items() if name.lower() == FORWARDED_FOR])
        answer = self._door.accept(request, peer, self._answered, self._certificate)
        self._answered = None
        self._listener = answer.listener
        return answer

    def _peer(self, forwarded_for: Sequence[str]) -> str:
        origin = self._heads.origin(self._address, forwarded_for)
        return UNIX if origin is None else f"{origin[0]}:{origin[1]}"

    def _frame_refused(self, code: int, reason: str) -> None:
        if self._listener is not None:
            self._listener.frame_refused(code, reason)

    def _ending(self) -> None:
        if self._listener is not None:
            self._listener.leave()

    @override
    def data_received(self, data: bytes) -> None:
        if self._asking is not None:
            self._hold(data)
        elif self._transport is not None:
            feed(self._transport.protocol, data)
        elif (asking := self._question(data)) is not None:
            self._asking = start_task(asking, "authentication of an upgrade")
            self._asking.add_done_callback(functools.partial(self._asked, data))
        else:
            asyncio.get_running_loop().call_soon(self._begin(data).take_over)

    # --- while the authenticate hook is asked ---

    def _question(self, request: bytes) -> Coroutine[Any, Any, AnsweredHandshake] | None:
        if not self._door.context.access.may_wait:
            return None
        target, fields = _parsed(request)
        peer = self._peer([value for name, value in fields if name == FORWARDED_FOR])
        headers: dict[str, str] = {}
        for name, value in fields:
            headers[name] = f"{headers[name]}, {value}" if name in headers else value
        return self._door.prepare(target, headers, peer, self._certificate)

    def _hold(self, data: bytes) -> None:
        """Keep what a peer sends that does not wait for the answer to its upgrade."""
        self._held += data
        if len(self._held) > MAX_HELD_BYTES and self._socket is not None:
            self._socket.pause_reading()

    def _asked(self, request: bytes, task: asyncio.Task[AnsweredHandshake]) -> None:
        self._asking = None
        if task.cancelled() or self._socket is None or self._socket.is_closing():
            return
        held, self._held = bytes(self._held), bytearray()
        if len(held) > MAX_HELD_BYTES:
            self._socket.resume_reading()
        self._answered = task.result()
        transport = self._begin(request)
        transport.take_over()
        feed(transport.reading, held)

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        if self._asking is not None:
            self._asking.cancel()
        if self._transport is not None:
            self._transport.protocol.connection_lost(exc)
            self._transport.release()

    @override
    def pause_writing(self) -> None:
        pass

    @override
    def resume_writing(self) -> None:
        pass


def _parsed(request: bytes) -> tuple[str, list[tuple[str, str]]]:
    """The target and the headers, names in lower case, of a request as uvicorn writes it down."""
    line, *lines = request.decode("latin-1").split("\r\n\r\n", 1)[0].split("\r\n")
    fields = [(name.lower(), value.strip()) for name, _, value in (each.partition(":") for each in lines)]
    return line.split(" ")[1], fields
