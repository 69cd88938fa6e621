"""The sockets between a mock hub and its clients, which can be cut, delayed and refused."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections import deque
from collections.abc import Callable
from typing import Any, Final

import uvicorn
from typing_extensions import override

from trunkline.edge.http.server import HttpServer

_RESET: Final = struct.pack("ii", 1, 0)
"""SO_LINGER: closing sends RST and drops what was not sent yet."""


class Wires:
    """All open sockets of a mock hub, and what is the matter with them.

    Attributes:
        delay: seconds that everything arrives later which the hub sends.
        is_offline: whether no connection comes about.
    """

    def __init__(self) -> None:
        self.delay = 0.0
        self.is_offline = False
        self._known: list[_Wire] = []

    def cut(self) -> None:
        """Reset every connection. What was on its way is lost."""
        for wire in self._known:
            wire.reset()
        self._known.clear()

    def opened(self, wire: _Wire) -> None:
        """Note a new socket, which is reset at once where it must not be there."""
        self._known = [known for known in self._known if not known.is_gone]
        if self.is_offline:
            wire.reset()
        else:
            self._known.append(wire)


class _Wire:
    """The transport of one client, as the hub's protocols see it: its own, but that what is written may wait."""

    def __init__(self, transport: asyncio.Transport, wires: Wires) -> None:
        self._transport = transport
        self._wires = wires
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[tuple[float, Callable[[], object]]] = deque()
        self._is_ending = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    @property
    def is_gone(self) -> bool:
        """Whether the socket is closed."""
        return self._transport.is_closing()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Write to the socket, after the delay."""
        if not self._waiting and not self._wires.delay:
            self._transport.write(data)
        else:
            copied = bytes(data)
            self._later(lambda: self._transport.write(copied))

    def writelines(self, parts: Any) -> None:
        """Write to the socket, after the delay."""
        self.write(b"".join(parts))

    def write_eof(self) -> None:
        """Half-close the socket, after what was written."""
        self._after_all(self._transport.write_eof)

    def close(self) -> None:
        """Close the socket, after what was written."""
        self._is_ending = True
        self._after_all(self._transport.close)

    def is_closing(self) -> bool:
        """Whether the socket is closed, or will be after what was written."""
        return self._is_ending or self._transport.is_closing()

    def get_write_buffer_size(self) -> int:
        """Bytes that wait, or at least 1 where what is written now has to wait."""
        return self._transport.get_write_buffer_size() or int(bool(self._waiting or self._wires.delay))

    def reset(self) -> None:
        """End the connection as a cable does that is pulled, without a close frame."""
        self._waiting.clear()
        connected = self._transport.get_extra_info("socket")
        if connected is not None and connected.fileno() >= 0:
            connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self._transport.abort()

    def _after_all(self, act: Callable[[], object]) -> None:
        if self._waiting:
            self._later(act)
        else:
            act()

    def _later(self, act: Callable[[], object]) -> None:
        due = self._loop.time() + self._wires.delay
        if self._waiting:  # nothing overtakes: not what was written while the delay was longer
            due = max(due, self._waiting[-1][0])
        self._waiting.append((due, act))
        if len(self._waiting) == 1:
            self._loop.call_at(due, self._pass_on)

    def _pass_on(self) -> None:
        while self._waiting and self._waiting[0][0] <= self._loop.time():
            _due, act = self._waiting[0]
            act()
            if self._waiting:  # else the connection was reset meanwhile
                self._waiting.popleft()
        if self._waiting:
            self._loop.call_at(self._waiting[0][0], self._pass_on)


class _Entry(asyncio.Protocol):
    """Gives a new socket to the hub's protocol by way of a wire."""

    def __init__(self, protocol: asyncio.Protocol, wires: Wires) -> None:
        self._protocol = protocol
        self._wires = wires

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        wire = _Wire(transport, self._wires)  # type: ignore[arg-type]  # uvloop's is an asyncio.Transport by shape
        wire.set_protocol(self._protocol)
        self._protocol.connection_made(wire)  # type: ignore[arg-type]  # a transport by shape
        self._wires.opened(wire)


class WiredServer(HttpServer):
    """The hub's HTTP server, whose sockets are wires."""

    def __init__(self, config: uvicorn.Config, wires: Wires) -> None:
        super().__init__(config)
        self._wires = wires

    @override
    def _protocol(self) -> asyncio.Protocol:
        return _Entry(super()._protocol(), self._wires)
