"""What Trunkline relies on in websockets beyond its documented interface: the client's link writes to its insides.

`client/link.py` puts frames into the connection's protocol itself, writes what comes out, and overrides how writing
waits. Here its class meets a server of the same library, and one that takes nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.metadata
import tomllib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.http11 import Request
from websockets.server import ServerProtocol

from tests.support.timing import PATIENCE
from trunkline.client.link import WRITE_BYTES, Link, LinkEnded, open_link
from trunkline_protocol import SUBPROTOCOL

FULL = 64 * WRITE_BYTES
"""More than this process's and the kernel's buffers take."""


def test_the_version_is_one_this_was_made_for() -> None:
    assert int(importlib.metadata.version("websockets").split(".")[0]) < 18
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
    assert "websockets>=15,<18" in project["project"]["dependencies"]


@asynccontextmanager
async def echoing() -> AsyncIterator[Link]:
    """A link whose other end sends back each text, ends at ``close`` and breaks off at ``cut``."""

    async def answer(connection: ServerConnection) -> None:
        async for message in connection:
            assert isinstance(message, str), "not a text frame"
            if message == "close":
                await connection.close(4321, "as asked")
            elif message == "cut":
                connection.transport.abort()
            else:
                await connection.send(message)

    async with asyncio.timeout(PATIENCE), serve(answer, "127.0.0.1", 0, subprotocols=[SUBPROTOCOL]) as server:  # type: ignore[list-item]
        link = await open_link(f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}", None)
        yield link
        link.abort()


class Deaf:
    """A server that takes an upgrade and then reads nothing until it is told to."""

    def __init__(self) -> None:
        self._protocol = ServerProtocol(subprotocols=[SUBPROTOCOL])  # type: ignore[list-item]
        self.reads = asyncio.Event()
        self.over = asyncio.Event()

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._protocol.receive_data(await reader.readuntil(b"\r\n\r\n"))
        (request,) = self._protocol.events_received()
        assert isinstance(request, Request)
        self._protocol.send_response(self._protocol.accept(request))
        writer.write(b"".join(self._protocol.data_to_send()))
        await self.reads.wait()
        with contextlib.suppress(ConnectionError):
            while await reader.read(1 << 20):
                pass
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
        self.over.set()


@asynccontextmanager
async def deaf(keepalive: float = 60.0) -> AsyncIterator[tuple[Link, Deaf]]:
    """A link whose other end reads nothing."""
    peer = Deaf()
    async with asyncio.timeout(PATIENCE), await asyncio.start_server(peer, "127.0.0.1", 0, limit=1024) as server:
        link = await open_link(f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}", None, keepalive=keepalive)
        yield link, peer
        link.abort()
        peer.reads.set()
        await peer.over.wait()


async def test_frames_put_into_its_protocol_are_sent_at_once_in_order_as_texts() -> None:
    async with echoing() as link:
        texts = [b"", b"one", "zwölf".encode(), b"x" * 70_000]
        link.write(texts)
        assert [await link.receive() for _ in texts] == texts


async def test_what_it_writes_itself_does_not_come_between_or_get_lost() -> None:
    """Both sides take what waits in the protocol: frames are whole whoever takes them."""
    async with echoing() as link:
        pongs = []
        for number in range(20):
            link.write([b"%d" % number, b"%d!" % number])
            pongs.append(await link._socket.ping())
        assert [await link.receive() for _ in range(40)] == [
            text for number in range(20) for text in (b"%d" % number, b"%d!" % number)
        ]
        await asyncio.gather(*pongs)


async def test_a_full_socket_is_told_of_and_so_is_room_again() -> None:
    async with deaf() as (link, peer):
        room = asyncio.Event()
        link.when_room(room.set)
        full = [link.is_full]
        link.write([b"x" * FULL])
        full.append(link.is_full)
        assert not room.is_set()
        peer.reads.set()
        await room.wait()
        assert [*full, link.is_full] == [False, True, False]


async def test_a_ping_does_not_wait_for_room() -> None:
    """Its answer is timed, so that nothing may hold it up that the peer has no part in."""
    async with deaf() as (link, _peer):
        link.write([b"x" * FULL])
        assert link.is_full
        async with asyncio.timeout(PATIENCE / 2):
            await link._socket.ping()


async def test_a_peer_that_answers_no_ping_ends_the_link_and_the_reason_says_so() -> None:
    async with deaf(keepalive=0.1) as (link, _peer):
        with pytest.raises(LinkEnded) as ended:
            await link.receive()
        assert (ended.value.info.code, "ping timeout" in ended.value.info.reason) == (1006, True)


async def test_it_is_not_open_from_the_peer_s_close_frame_on_and_has_its_code() -> None:
    async with echoing() as link:
        link.write([b"close"])
        with pytest.raises(LinkEnded) as ended:
            await link.receive()
        assert (ended.value.info.code, ended.value.info.reason) == (4321, "as asked")
        assert not link.is_open
        link.write([b"after"])  # does nothing, and raises nothing


async def test_a_connection_that_was_cut_has_no_code_but_a_reason() -> None:
    async with echoing() as link:
        link.write([b"cut"])
        with pytest.raises(LinkEnded) as ended:
            await link.receive()
        assert ended.value.info.code == 1006
        assert ended.value.info.reason
        assert not link.is_open


async def test_closing_a_full_link_does_not_wait_for_the_peer() -> None:
    async with deaf() as (link, _peer):
        link.write([b"x" * FULL])
        await link.close()
        assert not link.is_open
