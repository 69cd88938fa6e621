"""Accepts connections, a bounded number per turn of the event loop, and pauses while file descriptors run out.

The event loops' own acceptors take every waiting connection at once, and meet exhausted descriptors with closed
connections or a busy loop. Here connected peers are served between two portions of new connections, and new
connections wait in the kernel's backlog until there are descriptors again.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import resource
import socket
import ssl
from collections.abc import Callable
from typing import Any, Final

from trunkline.background import start_task
from trunkline.edge.pending_connections import PendingConnections
from trunkline_protocol.errors import RpcError

ACCEPT_PER_TURN: Final = 32
PAUSE_SECONDS: Final = 0.25
RESERVED_DESCRIPTORS: Final = 48
"""Kept for what the hub needs beside connections: executors' sockets and pipes, logs, collections."""

MAX_HANDSHAKES: Final = 1024
"""Connections that may be in their TLS handshake."""

HANDSHAKE_SECONDS: Final = 10.0
"""Seconds that a TLS handshake may take."""

SHUTDOWN_SECONDS: Final = 2.0
"""Seconds that a peer may take to answer the end of TLS."""

_EXHAUSTED: Final = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}

logger = logging.getLogger("trunkline.edge")


class Acceptor:
    """Accepts the connections of one listening socket.

    Args:
        listener: bound, listening, non-blocking.
        protocol: makes a protocol for each connection.
        tls: returns the context of each connection's TLS handshake; None where there is none.
    """

    def __init__(
        self,
        listener: socket.socket,
        protocol: Callable[[], asyncio.Protocol],
        tls: Callable[[], ssl.SSLContext] | None = None,
    ) -> None:
        self._listener = listener
        self._protocol = protocol
        self._loop = asyncio.get_running_loop()
        self._resuming: asyncio.TimerHandle | None = None
        self._exhausted = False
        self._last_fd = 0
        self._tls = tls
        self._handshakes = PendingConnections(MAX_HANDSHAKES, "max_connections", "have not finished the TLS handshake")

    def start(self) -> None:
        """Begin to accept connections, or resume after a pause."""
        self._resuming = None
        self._loop.add_reader(self._listener.fileno(), self._on_readable)

    def close(self) -> None:
        """Stop accepting and close the listening socket."""
        if self._resuming is not None:
            self._resuming.cancel()
        self._loop.remove_reader(self._listener.fileno())
        self._listener.close()

    def _on_readable(self) -> None:
        for _ in range(ACCEPT_PER_TURN):
            if not self._has_descriptors():
                self._pause("few are left for the hub itself")
                return
            try:
                accepted, address = self._listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno not in _EXHAUSTED:
                    logger.exception("accepting failed")
                self._pause(error.strerror or str(error))
                return
            self._last_fd = accepted.fileno()
            self._hand_over(accepted, address)
        if self._exhausted:
            self._exhausted = False
            logger.info("accepting connections again")

    def _has_descriptors(self) -> bool:
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        if limit == resource.RLIM_INFINITY or self._last_fd < limit - 8 * RESERVED_DESCRIPTORS:
            return True
        try:
            probe = os.dup(self._listener.fileno())  # the kernel gives the lowest free descriptor
        except OSError:
            return False
        os.close(probe)
        self._last_fd = probe
        return probe < limit - RESERVED_DESCRIPTORS

    def _pause(self, why: str) -> None:
        if not self._exhausted:
            self._exhausted = True
            limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
            logger.error(
                "out of file descriptors (%s): new connections wait; raise the limit (ulimit -n, now %s)", why, limit
            )
        self._loop.remove_reader(self._listener.fileno())
        self._resuming = self._loop.call_later(PAUSE_SECONDS, self.start)

    def _hand_over(self, accepted: socket.socket, address: Any) -> None:
        accepted.setblocking(False)
        if accepted.family != socket.AF_UNIX:
            accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._tls is not None:
            self._shake_hands(accepted, f"{address[0]}:{address[1]}", self._tls())
        else:
            start_task(self._connect(accepted), "accepted connection")

    def _shake_hands(self, accepted: socket.socket, peer: str, context: ssl.SSLContext) -> None:
        """Begin a TLS handshake. There is a bounded number of them, in which no address keeps others out."""
        try:
            self._handshakes.make_room(peer)
        except RpcError:
            accepted.close()
            return
        handshake = _Handshake(start_task(self._connect_by_tls(accepted, peer, context), "TLS handshake"))
        self._handshakes.add(handshake, peer)
        handshake.task.add_done_callback(lambda _task: self._handshakes.remove(handshake))

    async def _connect_by_tls(self, accepted: socket.socket, peer: str, context: ssl.SSLContext) -> None:
        limits = {"ssl_handshake_timeout": HANDSHAKE_SECONDS, "ssl_shutdown_timeout": SHUTDOWN_SECONDS}
        try:
            await self._loop.connect_accepted_socket(self._protocol, accepted, ssl=context, **limits)
        except OSError as error:
            logger.info("TLS handshake failed", extra={"peer": peer, "reason": str(error) or type(error).__name__})
            accepted.close()
        except asyncio.CancelledError:
            accepted.close()
            raise

    async def _connect(self, accepted: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(self._protocol, accepted)
        except OSError as error:  # the peer has disconnected already
            logger.debug("a connection was lost before it began: %s", error)
            accepted.close()


class _Handshake:
    """A connection that has not finished its TLS handshake."""

    __slots__ = ("task",)

    def __init__(self, task: asyncio.Task[None]) -> None:
        self.task = task

    def close(self, _code: int, _reason: str) -> None:
        """Cut the connection off: there is nothing yet that could be said over it."""
        self.task.cancel()


def raise_descriptor_limit(wanted: int) -> int:
    """Raise the soft limit of file descriptors as far as the hard limit allows, and return it.

    Args:
        wanted: how many connections are to fit.

    Returns:
        The soft limit that is in force now.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    target = wanted + 16 * RESERVED_DESCRIPTORS
    if hard != resource.RLIM_INFINITY:
        target = min(target, hard)
    if soft != resource.RLIM_INFINITY and soft < target:
        resource.setrlimit(resource.RLIMIT_NOFILE, (target, hard))
        soft = target
    if soft != resource.RLIM_INFINITY and soft < wanted + RESERVED_DESCRIPTORS:
        logger.warning("%d file descriptors are too few for %d connections (ulimit -n)", soft, wanted)
    return soft
