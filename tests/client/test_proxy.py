"""The proxy of the tests does what it says: a fault that is not there proves nothing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from tests.support.ports import reserved_port
from tests.support.proxy import Direction, Proxy
from tests.support.timing import PATIENCE, until


@asynccontextmanager
async def echo_server() -> AsyncIterator[int]:
    """Sends everything back, until the end."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield next(iter(server.sockets)).getsockname()[1]


@asynccontextmanager
async def through(proxy: Proxy) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    try:
        yield reader, writer
    finally:
        writer.close()


async def first_byte(proxy: Proxy) -> bytes:
    async with through(proxy) as (reader, _writer):
        return await asyncio.wait_for(reader.read(1), PATIENCE)


async def test_it_passes_everything_on_and_the_end_too() -> None:
    async with echo_server() as port, Proxy(port) as proxy, through(proxy) as (reader, writer):
        data = bytes(range(256)) * 4000
        writer.write(data)
        writer.write_eof()
        assert await asyncio.wait_for(reader.read(-1), PATIENCE) == data
        await proxy.wait_open(0)
        assert proxy.passed == {"to_hub": len(data), "to_client": len(data)}


async def test_a_cut_is_a_reset() -> None:
    async with echo_server() as port, Proxy(port) as proxy, through(proxy) as (reader, writer):
        writer.write(b"x")
        await reader.readexactly(1)
        assert proxy.cut() == 1
        with pytest.raises(ConnectionResetError):
            await asyncio.wait_for(reader.read(1), PATIENCE)


async def test_one_that_is_severed_is_silent_for_the_client_only() -> None:
    ended = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"x")
        with suppress(ConnectionError):
            await reader.read(1)
        ended.set()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        async with Proxy(port) as proxy, through(proxy) as (reader, writer):
            await reader.readexactly(1)
            assert proxy.sever() == 1
            await asyncio.wait_for(ended.wait(), PATIENCE)
            writer.write(b"is anybody there")
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(reader.read(1), 0.2)
            assert proxy.open == 1
            proxy.cut()
            with pytest.raises(ConnectionResetError):
                await asyncio.wait_for(reader.read(1), PATIENCE)


async def test_a_cut_at_a_byte() -> None:
    async with echo_server() as port, Proxy(port) as proxy, through(proxy) as (reader, writer):
        proxy.cut_after(5, "to_client")
        writer.write(b"0123456789")
        await proxy.wait_accepted(1)
        await proxy.wait_open(0)
        assert proxy.passed["to_client"] == 5
        with pytest.raises(ConnectionResetError):
            await asyncio.wait_for(reader.readexactly(10), PATIENCE)


@pytest.mark.parametrize("direction", ["to_hub", "to_client", None])
async def test_a_stall_passes_nothing_on_until_it_is_over(direction: Direction | None) -> None:
    async with echo_server() as port, Proxy(port) as proxy, through(proxy) as (reader, writer):
        proxy.stall(direction)
        writer.write(b"late")
        await until(lambda: proxy.arrived["to_client" if direction == "to_client" else "to_hub"] == 4, "it is held")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.read(1), 0.2)
        assert proxy.passed["to_client"] == 0
        assert proxy.passed["to_hub"] == (4 if direction == "to_client" else 0)
        proxy.resume()
        assert await asyncio.wait_for(reader.readexactly(4), PATIENCE) == b"late"


async def test_pieces_are_small_and_the_same_for_the_same_seed() -> None:
    async def pieces() -> int:
        async with echo_server() as port, Proxy(port, seed=7) as proxy, through(proxy) as (reader, writer):
            proxy.split(3)
            writer.write(b"y" * 200)
            count = 0
            received = b""
            while len(received) < 200:
                received += await asyncio.wait_for(reader.read(100), PATIENCE)
                count += 1
            assert received == b"y" * 200
            return count

    assert await pieces() > 20


async def test_a_delay_counts_once_each_way() -> None:
    async with echo_server() as port, Proxy(port) as proxy, through(proxy) as (reader, writer):
        proxy.delay(0.1)
        started = time.monotonic()
        writer.write(b"x")
        await asyncio.wait_for(reader.read(1), PATIENCE)
        assert time.monotonic() - started >= 0.2


async def test_refusals() -> None:
    async with echo_server() as port, Proxy(port) as proxy:
        proxy.refuse()
        with pytest.raises(ConnectionError):
            await first_byte(proxy)
        await proxy.wait_refused(1)
        proxy.refuse(False)
        async with through(proxy) as (reader, writer):
            writer.write(b"x")
            assert await asyncio.wait_for(reader.read(1), PATIENCE) == b"x"
        assert (proxy.accepted, proxy.refused) == (1, 1)


async def test_nobody_behind_it_is_a_reset() -> None:
    with reserved_port() as port:
        async with Proxy(port) as proxy:
            with pytest.raises(ConnectionError):
                await first_byte(proxy)
