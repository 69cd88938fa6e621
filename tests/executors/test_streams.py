"""Streams and their readers: who does not read pauses the generator, and nobody else."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.frames import TEXT, frame, raw_socket
from tests.support.hub import DEBUG_METHODS, MODULES, RunningHub, ready_hub
from tests.support.match import require
from tests.support.peer import Peer, peer
from tests.support.timing import PATIENCE, SCALE, eventually, number_in, standstill, until
from trunkline_protocol.errors import ErrorCode

MIB = 2**20


@pytest.fixture(scope="module")
def stream_hub() -> Iterator[RunningHub]:
    """A hub of its own: its memory is measured."""
    with ready_hub(DEBUG_METHODS, "lab", cwd=MODULES) as hub:
        yield hub


def request(method: str, params: str) -> bytes:
    return frame(TEXT, b'{"jsonrpc":"2.0","id":1,"method":"%b","params":%b}' % (method.encode(), params.encode()))


async def test_a_peer_that_does_not_read_pauses_the_generator(stream_hub: RunningHub, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    async with raw_socket(stream_hub.port) as silent, peer(stream_hub.url) as other:
        await silent.write(request("lab.flood", f'{{"n":10000000,"size":100000,"marker":"{marker}"}}'))
        await until(lambda: number_in(marker), "it streams")
        assert await standstill(lambda: number_in(marker)) < 1000, "what socket buffers take, before the hub pauses it"
        assert await other.result("debug.echo", {"value": 1}) == 1
    await asyncio.to_thread(eventually, Path(f"{marker}.closed").exists, "the generator is closed with its reader")


async def test_memory_stays_bounded_while_nobody_reads(stream_hub: RunningHub) -> None:
    before = stream_hub.rss()
    async with raw_socket(stream_hub.port) as silent, peer(stream_hub.url) as other:
        await silent.write(request("lab.big_chunks", '{"n":100000,"size":20000}'))
        peak, limit = 0, time.monotonic() + 1.0
        while time.monotonic() < limit:
            await other.result("debug.echo", {"value": 1})
            peak = max(peak, stream_hub.rss())
            await asyncio.sleep(0.02)  # between two looks
        assert peak - before < 40 * MIB


async def test_a_paused_stream_goes_on_where_it_was(stream_hub: RunningHub) -> None:
    async with peer(stream_hub.url, max_queue=1) as slow:
        stream = await slow.request("lab.big_chunks", {"n": 2000, "size": 10_000})
        await asyncio.sleep(0.3)  # nobody reads meanwhile: that is what is tested
        assert (await slow.reply(stream, within=3 * PATIENCE))["result"] == {"chunks": 2000}
        indexes = [message["params"]["index"] for message in slow.others]
        assert indexes == list(range(2001))


@pytest.mark.parametrize("pause", [0.0, 0.5])
async def test_large_chunks_reach_a_reader_however_slow(stream_hub: RunningHub, pause: float) -> None:
    """Credit is counted in items; what waits for one connection is bounded in bytes. Both have to hold at once."""
    async with peer(stream_hub.url, max_queue=1) as slow:
        stream = await slow.request("lab.big_chunks", {"n": 100, "size": MIB})
        await asyncio.sleep(pause)  # nobody reads meanwhile
        assert (await slow.reply(stream, within=3 * PATIENCE))["result"] == {"chunks": 100}


async def test_a_waiting_stream_is_not_idle(stream_hub: RunningHub) -> None:
    async with peer(stream_hub.url, max_queue=1) as slow:
        params = {"n": 3000, "size": 10_000}
        stream = await slow.request("lab.big_chunks", params, metadata={"timeout_ms": int(1500 * SCALE)})
        await asyncio.sleep(2 * SCALE)  # longer than the idle limit, but it is the reader who is slow
        assert (await slow.reply(stream, within=3 * PATIENCE))["result"] == {"chunks": 3000}


async def test_a_plain_generator_gives_its_thread_back_while_it_waits(stream_hub: RunningHub, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    async with raw_socket(stream_hub.port) as silent, peer(stream_hub.url) as other:
        await silent.write(request("lab.flood", f'{{"n":10000000,"size":100000,"marker":"{marker}"}}'))
        await asyncio.to_thread(eventually, marker.exists, "it streams")
        assert (await other.result("lab.alone", {"seconds": 0}))["pid"]


async def test_a_cancelled_stream_stops(lab_hub: RunningHub, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    async with peer(lab_hub.url) as connection:
        stream = await connection.request("lab.flood", {"n": 10_000_000, "marker": str(marker)})
        await connection.receive()
        await connection.cancel(stream)
        assert (await connection.reply(stream))["error"]["code"] == ErrorCode.CANCELLED
        await asyncio.to_thread(eventually, Path(f"{marker}.closed").exists, "the generator is closed")
        assert await connection.result("rpc.ping")
        assert not connection.others or all(m["params"]["index"] >= 0 for m in connection.others)


async def test_no_chunk_after_the_outcome(lab_peer: Peer) -> None:
    stream = await lab_peer.request("debug.count", {"n": 10**6})
    for _ in range(10):
        await lab_peer.receive()
    await lab_peer.cancel(stream)
    await lab_peer.reply(stream)
    lab_peer.others.clear()
    await lab_peer.result("debug.sleep", {"seconds": 0.1})
    assert lab_peer.others == []


async def test_many_streams_at_once_keep_their_order(lab_peer: Peer) -> None:
    ids = [await lab_peer.request("debug.count", {"n": 200}) for _ in range(10)]
    for each in ids:
        assert (await lab_peer.reply(each))["result"] == {"chunks": 200}
    for each in ids:
        indexes = [m["params"]["index"] for m in lab_peer.others if m["params"]["request_id"] == each]
        assert indexes == list(range(201))


async def test_a_slow_stream_does_not_hold_up_a_quick_call(lab_peer: Peer) -> None:
    stream = await lab_peer.request("debug.count", {"n": 3, "interval_ms": 60_000})
    await lab_peer.result("debug.echo", {"value": 1})
    await lab_peer.cancel(stream)
    await lab_peer.reply(stream)


async def test_a_chunk_json_cannot_carry_ends_the_stream(lab_peer: Peer) -> None:
    error = await lab_peer.error("lab.bad_chunk")
    require(
        {"code": ErrorCode.SERIALIZATION_ERROR, "message": {"$contains": "object"}, "data": {"chunks": 1}},
        error,
    )
