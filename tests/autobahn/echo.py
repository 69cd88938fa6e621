"""The real edge (uvicorn, picows, the hub's own listener) with an echo behind it instead of a hub.

Autobahn wants text and binary echoed; the hub's door takes text only and speaks JSON-RPC. Only what is behind the
frames is replaced here: every rule of framing under test is the hub's.
"""

from __future__ import annotations

import asyncio
import functools
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import uvicorn
from picows import WSUpgradeRequest, WSUpgradeResponseWithListener

from trunkline.config import Settings
from trunkline.edge.access.credentials import Credentials
from trunkline.edge.access.rules import LOOPBACK_NAMES, AccessRules
from trunkline.edge.context import EdgeContext
from trunkline.edge.http.protocol import BoundedHttpProtocol
from trunkline.edge.websocket.door import Certificate, WebSocketDoor
from trunkline.edge.websocket.endpoints import Negotiated
from trunkline.edge.websocket.listener import WebSocketListener
from trunkline.edge.websocket.upgrade import UpgradeProtocol
from trunkline.hub.connection import Services
from trunkline.hub.limits import ConnectionLimits, RateLimiter
from trunkline.hub.outbox import Flusher
from trunkline.hub.principal import ANONYMOUS, Handshake
from trunkline.hub.router import Router
from trunkline_protocol.codecs.dialect import Frame, Received
from trunkline_protocol.errors import RpcError


class Echo:
    """A dialect that answers everything itself: every message as what it came, text or binary."""

    def receive(self, frame: Frame) -> Received:
        return Received(to_peer=(frame,))

    def send(self, _message: bytes) -> list[Frame]:
        return []

    def refuse(self, _error: RpcError) -> list[Frame]:
        return []


class EchoDoor(WebSocketDoor):
    """Admits as the real door does, and gives the connection the dialect :class:`Echo`."""

    def accept(
        self,
        request: WSUpgradeRequest,
        peer: str,
        answered: Handshake | None = None,
        certificate: Certificate = None,
    ) -> WSUpgradeResponseWithListener:
        answer = super().accept(request, peer, answered, certificate)
        assert answer.listener is not None, "the suite's handshake was refused"
        return WSUpgradeResponseWithListener(
            answer.response, WebSocketListener(self.context, ANONYMOUS, peer, Negotiated(None, Echo()))
        )


def echo_door() -> EchoDoor:
    settings = Settings()
    context = EdgeContext(
        services=Services(
            router=Router(cast(Any, None), lambda *_: None),  # nothing is routed
            limits=ConnectionLimits(),
            rates=RateLimiter(0, 0),
            opened=lambda _connection: None,
            closed=lambda _connection: None,
        ),
        access=AccessRules(LOOPBACK_NAMES, (), Credentials().authenticate),
        flusher=Flusher(asyncio.get_running_loop()),
        max_connections=settings.max_connections,
        max_message_bytes=settings.max_message_bytes,
        outbox_bytes=settings.outbox_bytes,
        outbox_event_bytes=settings.outbox_event_bytes,
        auth_call=False,
    )
    return EchoDoor(context)


@asynccontextmanager
async def echo_server() -> AsyncIterator[int]:
    """Serve on a free port of 127.0.0.1 for the length of a ``with`` block; gives the port."""
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(
        _no_application,
        ws=functools.partial(UpgradeProtocol, echo_door()),  # type: ignore[arg-type]  # a factory serves, too
        http=BoundedHttpProtocol,
        lifespan="off",
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=1,
    )
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    while not server.started:
        await asyncio.sleep(0.01)
    try:
        yield listener.getsockname()[1]
    finally:
        server.should_exit = True
        await serving
        listener.close()


async def _no_application(_scope: Any, _receive: Any, _send: Any) -> None:
    raise AssertionError("only upgrades are asked for here")
