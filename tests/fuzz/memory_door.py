"""The WebSocket door without a socket or a clock: TCP segments in, everything it wrote out.

From :class:`UpgradeProtocol` on it is the real door, picows included; only the transport below, the connection above
and the loop's time are doubles.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final
from unittest.mock import MagicMock, patch

from picows import WSUpgradeResponse, WSUpgradeResponseWithListener

from tests.support.virtual_time import VirtualLoop
from trunkline.edge.transport import feed
from trunkline.edge.websocket import listener as websocket
from trunkline.edge.websocket import upgrade
from trunkline.hub.outbox import Flusher, Outbox
from trunkline.hub.principal import ANONYMOUS

UPGRADE: Final = (
    b"GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
SETTLE: Final = 5.0
"""Seconds after which a refused connection must be cut, whether the peer answers the close frame or not."""

LATE: Final = (b"late", b"later")
"""What the hub has to say after all segments have arrived; too late for a connection that is being closed."""

CLOSE: Final = 8


class _NoSocket:
    def fileno(self) -> int:
        return -1

    def setsockopt(self, *_option: Any) -> None:
        pass

    def getsockopt(self, *_option: Any) -> int:
        return 0


class MemoryTransport(asyncio.Transport):
    """Keeps what is written."""

    def __init__(self, protocol: Any) -> None:
        super().__init__({"socket": _NoSocket(), "peername": ("memory", 0)})
        self.protocol = protocol
        self.written = bytearray()
        self.half_closed = False
        self.closed = False
        protocol.connection_made(self)

    def write(self, data: Any) -> None:
        assert not self.half_closed, "written after the end"
        if not self.closed:
            self.written += data

    def get_write_buffer_size(self) -> int:
        return 1  # at 0 picows would write to the socket's number itself

    def set_protocol(self, protocol: Any) -> None:
        self.protocol = protocol

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.half_closed = True

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            asyncio.get_running_loop().call_soon(self.protocol.connection_lost, None)

    abort = close

    def arrived(self, segment: bytes) -> None:
        """One read of the socket."""
        if not self.closed and hasattr(self.protocol, "get_buffer"):
            feed(self.protocol, segment)
        elif not self.closed:
            self.protocol.data_received(segment)


class EchoConnection:
    """In the place of the hub's: remembers messages and answers each with its number."""

    number = 0
    principal = ANONYMOUS

    def __init__(self, *parts: Any) -> None:
        (self.outbox,) = (part for part in parts if isinstance(part, Outbox))
        self.messages: list[bytes] = []

    def receive(self, message: bytes) -> None:
        self.messages.append(message)
        self.outbox.send(b"%d" % len(self.messages))

    def receive_first(self, message: bytes) -> bool:
        self.receive(message)
        return True

    def writing_paused(self) -> None:
        self.outbox.pause()

    def writing_resumed(self) -> None:
        self.outbox.resume()

    def disconnected(self) -> None:
        self.outbox.close()


def memory_door(max_message_bytes: int) -> Any:
    """What the listeners share. Everybody is let in; of the hub behind the door nothing matters here."""
    context = MagicMock(
        max_message_bytes=max_message_bytes,
        outbox_bytes=1 << 24,
        outbox_event_bytes=1 << 24,
        flusher=Flusher(asyncio.get_running_loop()),
        ping_interval=25.0,
        ping_timeout=20.0,
    )
    context.access.may_wait = False
    door = MagicMock(context=context)
    door.accept = lambda _request, peer, *_of_whom: WSUpgradeResponseWithListener(
        WSUpgradeResponse.create_101_response(), websocket.WebSocketListener(context, ANONYMOUS, peer)
    )
    return door


@dataclass
class Observed:
    """What a peer saw, and what the hub got.

    Attributes:
        messages: what the hub got.
        frames: what the peer got: opcode, payload.
        cut: whether the connection was ended within :data:`SETTLE`.
        failures: errors that were logged or that reached the loop.
    """

    messages: list[bytes]
    frames: list[tuple[int, bytes]]
    cut: bool
    failures: list[str]

    @property
    def close_codes(self) -> list[int]:
        return [int.from_bytes(payload[:2], "big") for opcode, payload in self.frames if opcode == CLOSE]


class _Failures(logging.Handler):
    """Exceptions that picows catches, logs and answers with a close frame."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


def converse(segments: Iterable[bytes], max_message_bytes: int) -> Observed:
    """Upgrade, then let these segments arrive, one each turn of the loop. The peer answers nothing."""
    edge, failures, connections = logging.getLogger("trunkline.edge"), _Failures(), []

    def connect(*parts: Any) -> EchoConnection:
        connections.append(EchoConnection(*parts))
        return connections[0]

    edge.addHandler(failures)
    try:
        with patch.object(websocket, "ClientConnection", connect), asyncio.Runner(loop_factory=VirtualLoop) as runner:
            frames, cut = runner.run(_converse(segments, max_message_bytes, connections))
            failures.messages += [str(context) for context in runner.get_loop().failures]  # type: ignore[attr-defined]
    finally:
        edge.removeHandler(failures)
    return Observed(connections[0].messages, frames, cut, failures.messages)


async def _converse(
    segments: Iterable[bytes], max_message_bytes: int, connections: list[EchoConnection]
) -> tuple[list[tuple[int, bytes]], bool]:
    transport = MemoryTransport(upgrade.UpgradeProtocol(memory_door(max_message_bytes)))
    for segment in (UPGRADE, *segments):
        transport.arrived(segment)
        await asyncio.sleep(0)
    for late in LATE:  # two, for the door writes several at once in another way than a single one
        connections[0].outbox.send(late)
    await asyncio.sleep(SETTLE)
    cut = transport.closed
    transport.close()
    await asyncio.sleep(SETTLE)
    head, _, body = bytes(transport.written).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 101")
    return list(server_frames(body)), cut


def server_frames(data: bytes) -> Iterable[tuple[int, bytes]]:
    """Read what the hub wrote: whole frames, unmasked, no more bits than needed."""
    at = 0
    while at < len(data):
        first, size = data[at], data[at + 1]
        assert first & 0xF0 == 0x80, f"first byte {first:#x}"
        assert size < 128, "the hub masked a frame"
        width = {126: 2, 127: 8}.get(size, 0)
        start = at + 2 + width
        size = int.from_bytes(data[at + 2 : start], "big") if width else size
        assert start + size <= len(data), "a frame was cut off"
        yield first & 0x0F, data[start : start + size]
        at = start + size
