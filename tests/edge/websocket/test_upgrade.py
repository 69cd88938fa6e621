"""uvicorn's way of giving an upgrade away, which Trunkline relies on: ``Config(ws=factory)``."""

from __future__ import annotations

import asyncio
from typing import Any

import uvicorn

from tests.support.frames import raw_tcp
from tests.support.timing import PATIENCE


class Taker(asyncio.Protocol):
    """Notes what uvicorn hands over."""

    def __init__(self, calls: list[Any]) -> None:
        self._calls = calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._calls.append("made")

    def data_received(self, data: bytes) -> None:
        self._calls.append(data)
        self._transport.write(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")  # type: ignore[attr-defined]


async def no_app(scope: Any, receive: Any, send: Any) -> None:
    raise AssertionError("upgrades must not reach the application")


async def test_uvicorn_hands_over_transport_and_request() -> None:
    calls: list[Any] = []
    names: set[str] = set()

    def factory(**options: Any) -> Taker:
        names.update(options)
        return Taker(calls)

    config = uvicorn.Config(no_app, ws=factory, http="httptools", lifespan="off", log_config=None, port=0)  # type: ignore[arg-type]
    server = uvicorn.Server(config)
    config.load()
    server.lifespan = config.lifespan_class(config)
    await server.startup()
    try:
        port = server.servers[0].sockets[0].getsockname()[1]
        async with raw_tcp(port) as socket, asyncio.timeout(PATIENCE):
            assert (await socket.upgrade("/ws?q=1", {"X-Mine": "yes"})).status == 101
    finally:
        await server.shutdown()
    assert calls[0] == "made"
    request = b"".join(calls[1:])
    assert request.startswith(b"GET /ws?q=1 HTTP/1.1\r\n")
    assert b"x-mine: yes\r\n" in request.lower()
    assert b"sec-websocket-key: " in request.lower()
    assert request.endswith(b"\r\n\r\n")
    assert {"config", "server_state"} <= names
