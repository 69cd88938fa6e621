"""Refusals that clients can read which never see the HTTP answer to an upgrade: browsers, and Node's own WebSocket.

Such a client offers the subprotocol ``trunkline.refusal``. Its upgrade is accepted, the error that an HTTP answer would
have as its body is the one message it gets, and the connection is closed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Final

from picows import WSFrame, WSListener, WSMsgType, WSTransport
from typing_extensions import override

from trunkline.edge.access.rules import SUBPROTOCOLS, offered_subprotocols
from trunkline.edge.fragments import TRY_AGAIN_LATER
from trunkline.edge.transport import CLOSE_TIMEOUT, LingeringTransport, close_reason
from trunkline.hub.authentication import NOT_ALLOWED, NOT_AUTHENTICATED
from trunkline_protocol import REFUSAL_SUBPROTOCOL
from trunkline_protocol.errors import ErrorCode, RpcError

INTERNAL_ERROR: Final = 1011

MAX_REFUSING: Final = 256
"""Connections that are being refused at a time; above it the refusal is an HTTP answer, which keeps no socket."""

MAX_RECEIVED_BYTES: Final = 16 * 1024
"""What such a client may send before it has read that it is refused."""


def subprotocol_of(headers: Mapping[str, str]) -> str | None:
    """The subprotocol to accept an upgrade with that is then refused; None where the client reads HTTP answers."""
    offered = offered_subprotocols(headers)
    if REFUSAL_SUBPROTOCOL not in offered:
        return None
    return next((name for name in offered if name in SUBPROTOCOLS), REFUSAL_SUBPROTOCOL)


def close_code_of(error: RpcError) -> int:
    """The close code that says the same as an error."""
    if error.code == ErrorCode.UNAUTHENTICATED:
        return NOT_AUTHENTICATED
    if error.code == ErrorCode.INTERNAL_ERROR:
        return INTERNAL_ERROR
    return TRY_AGAIN_LATER if error.row.retryable else NOT_ALLOWED


class RefusingListener(WSListener):
    """Tells one client why it is refused, and closes the connection.

    Args:
        error: why.
        body: the error as a JSON-RPC message.
        on_end: called once, when the connection is lost.
    """

    def __init__(self, error: RpcError, body: bytes, on_end: Callable[[], None]) -> None:
        self._error = error
        self._body = body
        self._on_end = on_end
        self._cut: asyncio.TimerHandle | None = None

    @override
    def on_ws_connected(self, transport: WSTransport) -> None:
        socket: LingeringTransport = transport.underlying_transport  # type: ignore[assignment]
        socket.reading.allow(MAX_RECEIVED_BYTES, transport.disconnect)
        transport.send(WSMsgType.TEXT, self._body)
        transport.send_close(close_code_of(self._error), close_reason(self._error.message))  # type: ignore[arg-type]  # any integer goes
        self._cut = asyncio.get_running_loop().call_later(CLOSE_TIMEOUT, transport.disconnect, False)

    @override
    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type == WSMsgType.CLOSE:
            transport.disconnect()

    @override
    def on_ws_disconnected(self, transport: WSTransport) -> None:
        if self._cut is not None:
            self._cut.cancel()
        self._on_end()

    def frame_refused(self, _code: int, _reason: str) -> None:
        """Ignore a frame that picows refuses: the close frame is sent already."""

    def leave(self) -> None:
        """Do nothing: no connection of the hub is attached."""
