"""The TCP connection under HTTP requests."""

from __future__ import annotations

import asyncio
import socket
from typing import Final

WIRE: Final = "trunkline.wire"
"""Where a request's ASGI scope has its :class:`Wire`."""


class Wire:
    """The TCP connection under one or more requests, as far as ASGI does not show it.

    Attributes:
        number: of the first :class:`trunkline.hub.connection.Connection` that was made for it: later ones share it, so
            that fair queueing and the books see one connection.
    """

    __slots__ = ("_transport", "_watched", "number")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._watched = False
        self.number: int | None = None

    @property
    def unsent(self) -> int:
        """How many bytes wait for the peer to take them."""
        return self._transport.get_write_buffer_size()

    def abort(self) -> None:
        """Cut it off: what was not sent yet is lost."""
        self._transport.abort()

    def limit_silence(self, seconds: float) -> None:
        """Let the kernel give up on a peer that takes nothing, or is not there any more, for so long (Linux)."""
        raw = self._transport.get_extra_info("socket")
        if (
            not self._watched
            and raw is not None
            and raw.family != socket.AF_UNIX
            and hasattr(socket, "TCP_USER_TIMEOUT")
        ):
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, max(1, int(seconds * 1000)))
        self._watched = True
