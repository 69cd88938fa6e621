"""Standard input and output as the stream of one framed peer: the program that started this one.

Standard output carries frames and nothing else. Before anything is loaded its descriptor is duplicated, and descriptor
1 made a copy of standard error: whatever prints, in this process or an executor's, C libraries included, lands in the
log.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import stat
import sys
import threading
from typing import Final

from typing_extensions import override

from trunkline.edge.framed.stream import FramedStream, attach
from trunkline.edge.pacing import PacedReading
from trunkline.edge.transport import feed
from trunkline.hub.principal import ROLES, Principal

PARENT: Final = Principal("parent", ROLES, credential="stdio")
"""The program that started the hub has all rights."""

COPY_BYTES: Final = 64 * 1024
LOOK_SECONDS: Final = 0.1

logger = logging.getLogger("trunkline.edge")


class StandardIo:
    """Descriptors 0 and 1, kept for one framed peer while prints go elsewhere. Make one as early as possible.

    Attributes:
        peer: the program at the other end; None before :meth:`connect`.
        delivered: whether the peer has read everything; valid after :meth:`finish`.

    Raises:
        ValueError: standard output and standard error are one pipe: log lines would break the frames.
    """

    def __init__(self) -> None:
        output, errors = os.fstat(1), _stat(2)
        if errors is not None and os.path.samestat(output, errors) and not os.isatty(1):
            raise ValueError(
                "standard output and standard error are the same pipe: log lines would break the frames; "
                "leave out 2>&1 (of an Erlang port: :stderr_to_stdout)"
            )
        sys.stdout.flush()
        self._input, self._output = os.dup(0), os.dup(1)
        nothing = os.open(os.devnull, os.O_RDWR)
        os.dup2(nothing, 0)
        os.dup2(nothing if errors is None else 2, 1)
        os.close(nothing)
        self._blocking = [(os.dup(fd), os.get_blocking(fd)) for fd in (self._input, self._output)]
        self._copier: threading.Thread | None = None
        self.peer: FramedStream | None = None
        self.delivered = True

    async def connect(self, peer: FramedStream) -> None:
        """Attach a peer to the descriptors."""
        loop = asyncio.get_running_loop()
        self.peer = peer
        if _is_one_socket(self._input, self._output):  # of inetd, or socat EXEC
            os.close(self._output)
            await loop.connect_accepted_socket(lambda: _Socket(peer), socket.socket(fileno=self._input))
            return
        output, _ = await loop.connect_write_pipe(lambda: _Output(peer), os.fdopen(self._writable(), "wb", 0))
        await loop.connect_read_pipe(lambda: _Input(peer, output), os.fdopen(self._readable(), "rb", 0))

    def _readable(self) -> int:
        """A descriptor of the input that an event loop can wait for: files and terminals are copied into a pipe."""
        if _is_stream(self._input):
            return self._input
        readable, writable = os.pipe()
        threading.Thread(target=_copy, args=(self._input, writable), daemon=True, name="stdin").start()
        return readable

    def _writable(self) -> int:
        if _is_stream(self._output):
            return self._output
        readable, writable = os.pipe()
        self._copier = threading.Thread(target=_copy, args=(readable, self._output), daemon=True, name="stdout")
        self._copier.start()
        return writable

    async def finish(self, patience: float) -> None:
        """Wait until the peer has read everything it was sent; a hub that has stopped calls this last.

        Args:
            patience: seconds without the peer reading anything, after which it is given up.
        """
        peer = self.peer
        assert peer is not None
        loop = asyncio.get_running_loop()
        progress, since = peer.unwritten, loop.time()
        while not peer.is_over and loop.time() - since < patience:
            await asyncio.sleep(LOOK_SECONDS)
            if peer.unwritten != progress:
                progress, since = peer.unwritten, loop.time()
        if self._copier is not None and peer.is_over:
            await loop.run_in_executor(None, self._copier.join)
        for fd, blocking in self._blocking:
            with contextlib.suppress(OSError):
                os.set_blocking(fd, blocking)  # other processes share the open file, and its flags
        self.delivered = peer.is_over


class _Socket(asyncio.Protocol):
    """The protocol of a socket until its peer is attached."""

    def __init__(self, peer: FramedStream) -> None:
        self._peer = peer

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        attach(transport, self._peer)  # type: ignore[arg-type]  # uvloop's is an asyncio.Transport by shape only


class _Output(asyncio.Protocol):
    """The event loop's callbacks for standard output."""

    def __init__(self, peer: FramedStream) -> None:
        self._peer = peer

    @override
    def pause_writing(self) -> None:
        self._peer.pause_writing()

    @override
    def resume_writing(self) -> None:
        self._peer.resume_writing()

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._peer.connection_lost(exc)


class _Input(asyncio.Protocol):
    """The event loop's callbacks for standard input."""

    def __init__(self, peer: FramedStream, output: asyncio.WriteTransport) -> None:
        self._peer = peer
        self._output = output
        self._reading: PacedReading | None = None

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._reading = PacedReading(transport, self._peer)  # type: ignore[arg-type]  # it only reads
        self._peer.begin(self._reading, self._output)

    @override
    def data_received(self, data: bytes) -> None:
        # The event loop has no buffered protocols for pipes.
        feed(self._reading, data)

    @override
    def eof_received(self) -> bool | None:
        return self._peer.eof_received()


def _stat(fd: int) -> os.stat_result | None:
    try:
        return os.fstat(fd)
    except OSError:
        return None


def _is_one_socket(one: int, other: int) -> bool:
    status = os.fstat(one)
    return stat.S_ISSOCK(status.st_mode) and os.path.samestat(status, os.fstat(other))


def _is_stream(fd: int) -> bool:
    mode = os.fstat(fd).st_mode
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)


def _copy(source: int, target: int) -> None:
    """Copy until the end of the source, or until the target is closed; then close both."""
    with contextlib.suppress(OSError):
        while data := os.read(source, COPY_BYTES):
            view = memoryview(data)
            while view:
                view = view[os.write(target, view) :]
    os.close(target)
    os.close(source)
