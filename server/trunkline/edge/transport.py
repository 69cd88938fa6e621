"""picows' protocol, and the transport and logger it is given: for a close that arrives, and to learn of refused frames.

picows closes the socket 10 ms after it refused a frame. Where unread bytes of the peer are in the kernel by then, it
sends RST, which may overtake the close frame: whoever sends 20 MB would see a reset and never the code 1009. RFC 6455
(7.1.1) asks for what happens here: half-close, read on until the peer is done, and give up after a while.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import socket
import struct
from collections.abc import Callable
from typing import Any, Final

from picows import WSAutoPingStrategy, WSUpgradeRequest
from picows.picows import WSProtocol  # type: ignore[attr-defined]  # not in picows' stubs
from typing_extensions import override

from trunkline.edge.pacing import PacedReading

CLOSE_TIMEOUT: Final = 2.0
"""Seconds the peer gets to answer our close frame, and to end the connection."""

MAX_REASON_BYTES: Final = 123
"""Of the reason in a close frame, which has at most 125 bytes, two of them the code."""

QUIET: Final = 0.25
"""Seconds without a byte after which a peer counts as done with sending."""

logger = logging.getLogger("trunkline.edge")

_TCP_INFO: Final = struct.Struct("=24x I 92x Q 16x I")
"""Of the kernel's ``struct tcp_info``: tcpi_unacked, tcpi_bytes_acked, tcpi_notsent_bytes."""

_scrap: Final = bytearray(64 * 1024)  # all lingering connections read into it; its content is never used


class LingeringTransport:
    """A socket's transport as picows knows it. Reading and writing are the real one's own methods.

    Args:
        transport: the socket's.
        protocol: whose close is to linger.
        on_closing: called once, when nothing can be sent any more.

    Attributes:
        protocol: receives what is read: the one given or, after :meth:`close`, one that drains the socket.
        reading: limits how much that protocol reads per turn.
    """

    def __init__(self, transport: asyncio.Transport, protocol: Any, on_closing: Callable[[], None]) -> None:
        self._transport = transport
        self._on_closing = on_closing
        self.protocol: Any = protocol
        self.reading = PacedReading(transport, protocol, self.release)
        self.write = transport.write
        self.writelines = transport.writelines
        self.get_write_buffer_size = transport.get_write_buffer_size
        self.get_extra_info = transport.get_extra_info
        if not isinstance(transport.get_extra_info("peername"), tuple):
            self.get_extra_info = functools.partial(_extra_info, transport)
        self.is_closing = transport.is_closing
        self.is_reading = transport.is_reading
        self.abort = transport.abort

        self.pause_reading = self.reading.hold
        self.resume_reading = self.reading.release

    def delivery(self) -> int | None:
        """Bytes that have reached the peer's kernel so far, while more are on their way.

        None where nothing is on its way, or the system does not tell (it does on Linux, of TCP).
        """
        connected = self.get_extra_info("socket")
        if not hasattr(socket, "TCP_INFO") or isinstance(connected, _UnixSocket):
            return None
        info = connected.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO.size)
        if len(info) < _TCP_INFO.size:
            return None
        in_flight, acknowledged, unsent = _TCP_INFO.unpack(info)
        return acknowledged if in_flight or unsent or self.get_write_buffer_size() else None

    def sent(self) -> int | None:
        """Bytes that have reached the peer's kernel so far; None where the system does not tell."""
        connected = self.get_extra_info("socket")
        if not hasattr(socket, "TCP_INFO") or connected.family == socket.AF_UNIX or connected.fileno() < 0:
            return None
        info = connected.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO.size)
        return int(_TCP_INFO.unpack(info)[1]) if len(info) == _TCP_INFO.size else None

    def take_over(self) -> None:
        """Make :attr:`protocol` the one that reads the socket."""
        draining = isinstance(self.protocol, _Draining)
        self._transport.set_protocol(self.protocol if draining else self.reading)

    def release(self) -> None:
        """Let go of picows at once, now that the connection is lost: its buffer is as large as the largest message was.

        picows holds this object; left to the cyclic garbage collector, which counts objects and not bytes, dead
        connections would pile up by the megabyte.
        """
        self.protocol = None
        self._on_closing = _nothing
        self.reading.detach()

    def close(self) -> None:
        """Half-close, drop what still arrives, and abort the socket if the peer does not end in time."""
        if isinstance(self.protocol, _Draining) or self._transport.is_closing():
            return
        self._on_closing()
        handshake = self.protocol.transport.close_handshake
        sending = handshake is not None and handshake.recv is None
        self.protocol = _Draining(self._transport, self.protocol, sending, self.release)
        self.take_over()


def _nothing() -> None:
    """Replaces ``on_closing`` once the connection is lost."""


class _UnixSocket:
    """Stands in for a connected Unix socket: picows sets and reads TCP options on every socket it gets."""

    family: Final = socket.AF_UNIX

    def __init__(self, connected: socket.socket) -> None:
        self.fileno = connected.fileno
        self._connected = connected

    def setsockopt(self, *_option: Any) -> None:
        """Ignore an option: picows sets those of TCP only."""

    def getsockopt(self, level: int, option: int) -> int:
        """The socket's own option, or 0 for one of TCP."""
        return 0 if level == socket.IPPROTO_TCP else self._connected.getsockopt(level, option)


def _extra_info(transport: asyncio.Transport, name: str, default: Any = None) -> Any:
    found = transport.get_extra_info(name, default)
    return _UnixSocket(found) if name == "socket" else found


class _Draining(asyncio.BufferedProtocol):
    """Half-closes, then reads to the end and drops it; then tells the protocol before it that the connection is lost.

    Args:
        sending: the peer may be in the middle of a message. The half-close waits until it is quiet, for some clients
            stumble over the end of a stream that they are still writing to.
        on_lost: called last, after that protocol.
    """

    def __init__(
        self,
        transport: asyncio.Transport,
        before: asyncio.BaseProtocol,
        sending: bool,
        on_lost: Callable[[], None],
    ) -> None:
        loop = asyncio.get_running_loop()
        self._transport = transport
        self._before = before
        self._on_lost = on_lost
        self._heard = sending
        self._cut = loop.call_later(CLOSE_TIMEOUT, transport.abort)
        transport.resume_reading()
        self._half_close_when_quiet()

    def _half_close_when_quiet(self) -> None:
        if self._transport.is_closing():
            return
        if self._heard:
            self._heard = False
            asyncio.get_running_loop().call_later(QUIET, self._half_close_when_quiet)
        elif self._transport.can_write_eof():
            self._transport.write_eof()
        else:  # TLS has no half-close
            self._transport.close()

    @override
    def get_buffer(self, sizehint: int) -> bytearray:
        return _scrap

    @override
    def buffer_updated(self, nbytes: int) -> None:
        self._heard = True

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._cut.cancel()
        self._before.connection_lost(exc)
        self._on_lost()


class FramingErrors:
    """picows' logger: the only place where picows tells of a refused frame before it sends its own close frame.

    Args:
        on_refused: called with close code and reason for each frame that picows refuses.
    """

    def __init__(self, on_refused: Callable[[int, str], None]) -> None:
        self._on_refused = on_refused

    def error(self, message: str, *arguments: Any) -> None:
        """Pass on a refused frame, of which ``arguments`` is one tuple of code and reason; log anything else."""
        match arguments:
            case ((int() as code, str() as reason),):
                self._on_refused(int(code), reason)
            case _:
                logger.error(message, *arguments)

    def exception(self, message: str, *arguments: Any) -> None:
        """Log that a callback of this hub raised; picows closes the connection with 1011."""
        logger.exception(message, *arguments)

    def isEnabledFor(self, level: int) -> bool:
        """False: the hub logs connections itself, so that picows need not format its other messages."""
        return False

    def log(self, *_arguments: Any) -> None:
        """Drop a message of picows'."""

    debug = info = warning = log


def picows_protocol(listener_factory: Callable[[WSUpgradeRequest], Any], max_frame_size: int, log: Any) -> WSProtocol:
    """picows' server-side protocol. Its constructor is no public API of picows: a contract test covers it."""
    return WSProtocol(
        None,  # host and port: client side only
        None,  # path: client side only
        False,  # is_client_side
        listener_factory,
        log,
        True,  # disconnect_on_exception
        5,  # websocket_handshake_timeout, seconds
        False,  # enable_auto_ping: it takes nothing but a pong for a sign of life; see Heartbeat
        1,  # auto_ping_idle_timeout
        1,  # auto_ping_reply_timeout
        WSAutoPingStrategy.PING_WHEN_IDLE,
        False,  # enable_auto_pong: it would answer pings with reserved bits set
        max_frame_size,
        None,  # extra_headers: client side only
        2048,  # read_buffer_init_size, grows as needed
    )


def close_reason(text: str) -> bytes:
    """The reason of a close frame: as many whole characters of a text as fit into one."""
    return text.encode()[:MAX_REASON_BYTES].decode(errors="ignore").encode()


def feed(protocol: WSProtocol, data: bytes) -> None:
    """Give bytes to picows as if they came from the socket."""
    view = memoryview(data)
    while view:
        buffer = protocol.get_buffer(len(view))
        size = min(len(buffer), len(view))
        buffer[:size] = view[:size]
        protocol.buffer_updated(size)
        view = view[size:]
