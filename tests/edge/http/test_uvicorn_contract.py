"""What Trunkline relies on in uvicorn beyond its documented interface: its HTTP protocol, its cycles, its server.

`edge/http_protocol.py` extends the protocol, `edge/http_server.py` the server, and `edge/upgrade.py` is called by both.
Here they serve applications and doors of the test's own, so that nothing but them and uvicorn is between the lines.
"""

from __future__ import annotations

import asyncio
import functools
import importlib.metadata
import signal
import socket
import time
import tomllib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from tests.support.timing import PATIENCE, TIMER_GRAIN
from trunkline.edge.http import protocol
from trunkline.edge.http.protocol import LINGER_SECONDS, BoundedHttpProtocol
from trunkline.edge.http.request_head import RequestHeads
from trunkline.edge.http.server import HttpServer
from trunkline.edge.http.wire import WIRE, Wire

Application = Callable[[Any, Any, Any], Awaitable[None]]
HEAD = b"HTTP/1.1\r\nHost: localhost\r\n"
UPGRADE = b"GET /ws?x=1 HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nX-Mine: Yes\r\n\r\n"


def test_the_version_is_one_this_was_made_for() -> None:
    assert tuple(map(int, importlib.metadata.version("uvicorn").split(".")[:2])) < (0, 55)
    project = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())
    assert "uvicorn>=0.34,<0.55" in project["project"]["dependencies"]


class Serving:
    """A server of the test's application, on a port of its own."""

    def __init__(self, server: HttpServer, port: int) -> None:
        self.server = server
        self.port = port

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        """A connection to it."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            yield reader, writer
        finally:
            writer.close()


@asynccontextmanager
async def serving(application: Application, **protocols: Any) -> AsyncIterator[Serving]:
    """As `app.py` does it."""
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setblocking(False)
    config = uvicorn.Config(
        application,
        http=functools.partial(BoundedHttpProtocol, heads=protocols.pop("heads", None)),  # type: ignore[arg-type]
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=2,
        **protocols,
    )
    server = HttpServer(config)
    async with asyncio.timeout(PATIENCE):
        task = asyncio.create_task(server.serve(sockets=[listener]))
        yield Serving(server, listener.getsockname()[1])
        server.should_exit = True
        await task


async def answer(send: Any, status: int = 200, body: bytes = b"done") -> None:
    length = str(len(body)).encode()
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-length", length)]})
    await send({"type": "http.response.body", "body": body})


async def test_the_scope_has_what_the_protocol_put_there() -> None:
    """The wire, for applications; whom a trusted proxy named, for all."""
    seen: list[Any] = []

    async def application(scope: Any, _receive: Any, send: Any) -> None:
        seen.append((scope["client"], type(scope[WIRE]), scope[WIRE].unsent))
        await answer(send)

    async with serving(application, heads=RequestHeads(["127.0.0.1"])) as here, here.connected() as (reader, writer):
        writer.write(b"GET / " + HEAD + b"X-Forwarded-For: 10.9.8.7\r\nConnection: close\r\n\r\n")
        assert (await reader.read()).startswith(b"HTTP/1.1 200")
    assert seen == [(("10.9.8.7", 0), Wire, 0)]


async def test_what_refuses_a_head_takes_the_application_s_place() -> None:
    async def application(_scope: Any, _receive: Any, send: Any) -> None:
        await answer(send, 202)

    async with serving(application, heads=RequestHeads()) as here, here.connected() as (reader, writer):
        for target, status in ((b"/", b"202"), (b"http://other/", b"400")):
            writer.write(b"GET " + target + b" " + HEAD + b"\r\n")
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.split()[1] == status
            length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length"))
            await reader.readexactly(int(length.split(b":")[1]))
        assert await reader.read() == b""


async def test_an_answer_ahead_of_its_request_s_body_is_read_though_the_connection_ends() -> None:
    """A response is written to the transport that its cycle was given, and ends the connection by its ``close``."""

    async def application(_scope: Any, _receive: Any, send: Any) -> None:
        await answer(send, 413)

    async with serving(application) as here, here.connected() as (reader, writer):
        writer.write(b"POST / " + HEAD + b"Connection: close\r\nContent-Length: 30000000\r\n\r\n")
        assert (await reader.read()).startswith(b"HTTP/1.1 413"), "no end of the stream after the answer"
        began = asyncio.get_running_loop().time()
        for _ in range(30):
            writer.write(b"x" * 1_000_000)
            await writer.drain()  # it is taken, and dropped
        assert asyncio.get_running_loop().time() - began < LINGER_SECONDS


async def test_whoever_answers_learns_that_the_peer_is_gone_though_a_later_request_waits() -> None:
    """uvicorn tells the last cycle only; the one that runs is the first."""
    running, told = asyncio.Event(), asyncio.Event()
    messages: list[str] = []

    async def application(_scope: Any, receive: Any, _send: Any) -> None:
        running.set()
        while not told.is_set():
            messages.append((await receive())["type"])
            if messages[-1] == "http.disconnect":
                told.set()

    async with serving(application) as here:
        async with here.connected() as (_reader, writer):
            writer.write((b"GET /first " + HEAD + b"\r\n") + (b"GET /second " + HEAD + b"\r\n"))
            await running.wait()
        await told.wait()
    assert messages[0] == "http.request"


async def test_pipelined_requests_are_answered_in_turn_and_none_is_kept() -> None:
    async def application(scope: Any, _receive: Any, send: Any) -> None:
        await answer(send, 200, scope["path"].encode())

    async with serving(application) as here, here.connected() as (reader, writer):
        writer.write(b"".join(b"GET /%d " % number + HEAD + b"\r\n" for number in range(5)))
        for number in range(5):
            await reader.readuntil(b"\r\n\r\n")
            assert await reader.readexactly(2) == b"/%d" % number
        (protocol,) = here.server.server_state.connections
        assert isinstance(protocol, BoundedHttpProtocol)
        assert protocol._unanswered == []
        assert protocol.cycle.response_complete


@pytest.mark.parametrize("head", [b"", b"GET /ws HTTP/1.1\r\nHost: 127.0.0.1\r\n"], ids=["silence", "half a head"])
async def test_fault_09_a_handshake_that_never_comes(head: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    async def application(_scope: Any, _receive: Any, _send: Any) -> None:
        raise AssertionError("it went to the application")

    monkeypatch.setattr(protocol, "HEAD_TIMEOUT", 0.2)
    async with serving(application) as here:
        began = time.monotonic()
        async with here.connected() as (reader, writer):
            writer.write(head)
            with suppress(ConnectionResetError):
                assert await reader.read() == b""
        assert time.monotonic() - began >= 0.2 - TIMER_GRAIN


class Door(asyncio.Protocol):
    """Writes down what uvicorn calls for an upgrade."""

    def __init__(self, seen: list[Any], options: dict[str, Any]) -> None:
        self.seen = seen
        seen.append(sorted(options))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.seen.append(isinstance(transport.get_extra_info("peername"), tuple))

    def data_received(self, data: bytes) -> None:
        self.seen += [data, self.transport.get_protocol() is self]
        asyncio.get_running_loop().call_soon(self._later)

    def _later(self) -> None:
        self.seen.append(self.transport.get_protocol() is self)
        self.transport.write(b"taken over")  # type: ignore[attr-defined]


async def test_an_upgrade_gets_the_whole_head_and_is_the_transport_s_protocol_right_after() -> None:
    """So the one that takes over for good may be set from ``call_soon``."""
    seen: list[Any] = []

    async def application(_scope: Any, _receive: Any, _send: Any) -> None:
        raise AssertionError("an upgrade went to the application")

    def door(**options: Any) -> Door:
        return Door(seen, options)

    async with serving(application, ws=door) as here, here.connected() as (reader, writer):
        writer.write(UPGRADE)
        assert await reader.readexactly(10) == b"taken over"
        assert not here.server.server_state.connections, "uvicorn would still close it"
    options, has_peer, head, before, after = seen[:5]
    assert options == ["app_state", "config", "server_state"]
    assert has_peer
    lines = head.split(b"\r\n")
    assert lines[0] == b"GET /ws?x=1 HTTP/1.1"
    assert {line.lower() for line in lines[1:]} >= {b"connection: upgrade", b"upgrade: websocket", b"x-mine: yes"}
    assert head.endswith(b"\r\n\r\n")
    assert (before, after) == (False, True)


async def test_a_head_that_is_refused_is_no_upgrade() -> None:
    async def application(_scope: Any, _receive: Any, _send: Any) -> None:
        raise AssertionError("it went to the application")

    async with serving(application, heads=RequestHeads(), ws=Door) as here, here.connected() as (reader, writer):
        writer.write(UPGRADE.replace(b"Host: localhost", b"Host: a b"))
        assert (await reader.readuntil(b"\r\n")).split()[1] == b"400"


async def test_the_server_leaves_signals_alone_and_ends_idle_connections_when_it_is_told_to() -> None:
    async def application(_scope: Any, _receive: Any, send: Any) -> None:
        await answer(send)

    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    # Much longer than this waits, it would leave an idle connection open by itself.
    async with serving(application, timeout_keep_alive=3600) as here, here.connected() as (reader, writer):
        writer.write(b"GET / " + HEAD + b"\r\n")
        await reader.readuntil(b"done")
        assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers
        assert here.server.started
        here.server.should_exit = True
        assert await reader.read() == b"", "an idle connection was left open"
