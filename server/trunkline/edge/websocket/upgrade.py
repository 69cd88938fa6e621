"""The hand-over from uvicorn to picows, when an HTTP connection becomes a WebSocket."""

from __future__ import annotations

import asyncio
import re
from typing import Any, Final

from picows import WSUpgradeRequest, WSUpgradeResponseWithListener
from typing_extensions import override

from trunkline.edge.access.rules import UNIX
from trunkline.edge.http.request_head import FORWARDED_FOR, Address, RequestHeads
from trunkline.edge.transport import FramingErrors, LingeringTransport, feed, picows_protocol
from trunkline.edge.websocket.door import WebSocketDoor
from trunkline.edge.websocket.listener import WebSocketListener
from trunkline.edge.websocket.refusal import RefusingListener

# uvicorn has found "upgrade" among the tokens; picows accepts it only alone, but Firefox sends "keep-alive, Upgrade".
_CONNECTION: Final = re.compile(rb"(\r\nconnection:)[^\r\n]*\r\n", re.IGNORECASE)


class UpgradeProtocol(asyncio.Protocol):
    """Takes an upgrade from uvicorn and hands the transport to picows.

    uvicorn calls ``connection_made``, then ``data_received`` with the request, and sets this object as the
    transport's protocol right after; picows' protocol is therefore set from ``call_soon``, and whatever arrives in
    between is passed on.
    """

    def __init__(self, door: WebSocketDoor, heads: RequestHeads | None = None, **_uvicorn: Any) -> None:
        self._door = door
        self._heads = heads or RequestHeads()
        self._address: Address | None = None
        self._transport: LingeringTransport | None = None
        self._listener: WebSocketListener | RefusingListener | None = None

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        peername = transport.get_extra_info("peername")
        if isinstance(peername, tuple):
            self._address = peername[0], peername[1]
        picows = picows_protocol(self._accept, self._door.context.max_message_bytes, FramingErrors(self._frame_refused))
        # uvloop's transport is an asyncio.Transport by shape only
        self._transport = LingeringTransport(transport, picows, self._ending)  # type: ignore[arg-type]
        picows.connection_made(self._transport)

    def _accept(self, request: WSUpgradeRequest) -> WSUpgradeResponseWithListener:
        lines = [value for name, value in request.headers.items() if name.lower() == FORWARDED_FOR]
        origin = self._heads.origin(self._address, lines)
        answer = self._door.accept(request, UNIX if origin is None else f"{origin[0]}:{origin[1]}")
        self._listener = answer.listener
        return answer

    def _frame_refused(self, code: int, reason: str) -> None:
        if self._listener is not None:
            self._listener.frame_refused(code, reason)

    def _ending(self) -> None:
        if self._listener is not None:
            self._listener.leave()

    @override
    def data_received(self, data: bytes) -> None:
        assert self._transport is not None
        feed(self._transport.protocol, _CONNECTION.sub(b"\\1Upgrade\\r\\n", data, count=1))
        asyncio.get_running_loop().call_soon(self._transport.take_over)

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        if self._transport is not None:
            self._transport.protocol.connection_lost(exc)
            self._transport.release()

    @override
    def pause_writing(self) -> None:
        pass

    @override
    def resume_writing(self) -> None:
        pass
