"""The TCP connection under HTTP requests, as far as ASGI does not show it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Mapping
from typing import Any, Final

WIRE: Final = "trunkline.wire"
"""The key of a request's :class:`Wire` in its ASGI scope."""


class Wire:
    """The TCP connection under one or more requests.

    Attributes:
        number: of the first :class:`trunkline.hub.connection.Connection` made for it; later ones share the number, so
            that fair queueing and accounting see one connection. None before the first request.
        on_lost: called when the connection is lost.
    """

    __slots__ = ("_transport", "_watched", "number", "on_lost")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._watched = False
        self.number: int | None = None
        self.on_lost: Callable[[], object] = _nothing

    @property
    def unsent(self) -> int:
        """Bytes that wait in the transport for the peer to read them."""
        return self._transport.get_write_buffer_size()

    @property
    def certificate(self) -> Mapping[str, Any] | None:
        """The peer's verified certificate; see :class:`trunkline.hub.principal.Handshake`."""
        return self._transport.get_extra_info("peercert") or None

    def abort(self) -> None:
        """Abort the connection: unsent bytes are lost."""
        self._transport.abort()

    def limit_silence(self, seconds: float) -> None:
        """Let the kernel end a connection whose peer acknowledges nothing for so many seconds (Linux)."""
        raw = self._transport.get_extra_info("socket")
        if (
            not self._watched
            and raw is not None
            and raw.family != socket.AF_UNIX
            and hasattr(socket, "TCP_USER_TIMEOUT")
        ):
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, max(1, int(seconds * 1000)))
        self._watched = True


def _nothing() -> None:
    """Stands for :attr:`Wire.on_lost` while nobody asks."""
