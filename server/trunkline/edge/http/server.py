"""uvicorn's server with the hub's own acceptor, and without signal handlers: the hub decides when to stop."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable, Iterable, Iterator

import uvicorn
from typing_extensions import override

from trunkline.edge.acceptor import Acceptor
from trunkline.edge.tls import Tls


class HttpServer(uvicorn.Server):
    """Serves the sockets it is given through :class:`trunkline.edge.acceptor.Acceptor`.

    Args:
        tls: TLS of its TCP port; None where there is none. Unix sockets have none in any case.
    """

    def __init__(self, config: uvicorn.Config, tls: Tls | None = None) -> None:
        super().__init__(config)
        self._tls = tls
        self._acceptors: list[Acceptor] = []

    @override
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    @override
    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await self.lifespan.startup()
        self.accept(sockets or ())

    def accept(self, listeners: Iterable[socket.socket]) -> None:
        """Begin to accept the connections of these sockets, which are bound, listening and non-blocking."""
        self.servers = []
        self._acceptors = [Acceptor(listener, self._protocol, self._context_of(listener)) for listener in listeners]
        for acceptor in self._acceptors:
            acceptor.start()
        self.started = True

    def _context_of(self, listener: socket.socket) -> Callable[[], ssl.SSLContext] | None:
        tls = self._tls
        return None if tls is None or listener.family == socket.AF_UNIX else lambda: tls.context

    @override
    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self.stop_accepting()
        await super().shutdown()

    def stop_accepting(self) -> None:
        """Accept no new connections; open ones go on."""
        acceptors, self._acceptors = self._acceptors, []
        for acceptor in acceptors:
            acceptor.close()

    def _protocol(self) -> asyncio.Protocol:
        make: Callable[..., asyncio.Protocol] = self.config.http_protocol_class
        return make(config=self.config, server_state=self.server_state, app_state=self.lifespan.state)
