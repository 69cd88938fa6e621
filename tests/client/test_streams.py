"""Streams both ways: nobody runs further ahead than the other side allows, and nothing stalls for want of a grant."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import pytest

from tests.client.faults import Changes, through_proxy
from tests.client.scripted import agreeable, chunk, final, scripted_hub
from tests.support.hub import RunningHub
from tests.support.timing import PATIENCE, eventually, number_in, standstill, until
from trunkline.client import DisconnectedError, Hub, Window, connect
from trunkline.client.streams import MAX_ITEMS, ReceiveWindow
from trunkline_protocol.errors import ErrorCode, RpcError
from trunkline_protocol.flow import SendWindow

T = TypeVar("T")


@pytest.fixture
async def client(lab_hub: RunningHub) -> AsyncIterator[Hub]:
    async with connect(lab_hub.url) as hub:
        yield hub


async def comes_to(client: Hub, state: Callable[[], T], expected: T) -> None:
    """Wait for a state, and see that it goes no further: what is under way comes before the replies to calls."""
    await until(lambda: state() == expected, f"it comes to {expected!r}")
    for _ in range(3):
        await client.call("debug.echo")
    assert state() == expected


# --- grants ---


def test_a_grant_is_due_after_half_the_items_or_half_the_bytes() -> None:
    grants = ReceiveWindow(Window(items=8, bytes=1000))
    assert [grants.consume(10) for _ in range(8)] == [False] * 3 + [True] + [False] * 3 + [True]
    assert grants.consumed == 8
    assert [grants.consume(250) for _ in range(4)] == [False, True, False, True]


@pytest.mark.parametrize("window", [Window(items=1, bytes=1), Window(items=2, bytes=10**9), Window(bytes=1)])
def test_the_smallest_windows_are_granted_item_by_item(window: Window) -> None:
    grants = ReceiveWindow(window)
    assert [grants.consume(5) for _ in range(3)] == [True] * 3


def test_what_the_hub_does_not_send_ahead_is_not_waited_for() -> None:
    grants = ReceiveWindow(Window(items=10**6, bytes=2**50))
    assert sum(grants.consume(1) for _ in range(MAX_ITEMS)) == 2


@pytest.mark.parametrize("items", [1, 2, 3, 64])
@pytest.mark.parametrize("size", [1, 7, 100, 5000])
@pytest.mark.parametrize("overhead", [0, 90])
def test_a_sender_that_waits_is_always_owed_a_grant(items: int, size: int, overhead: int) -> None:
    """Both ends joined: the reader reads all there is, the sender sends whenever it may, and it never ends early."""
    window = Window(items=items, bytes=1000)
    sender, reader = SendWindow(window.items, window.bytes), ReceiveWindow(window)
    waiting = 0
    while sender.sent < 500:
        while not sender.exhausted:
            sender.spend(size)
            waiting += 1
        told = 0
        while waiting:
            waiting -= 1
            if reader.consume(size + overhead):
                told = reader.consumed
        assert told, "the sender waits for ever"
        sender.grant(told)


# --- chunks ---


async def test_what_waits_here_is_bounded_by_the_window(client: Hub, tmp_path: Path) -> None:
    marker = tmp_path / "m"
    stream = await client.stream("lab.flood", {"n": 1000, "marker": str(marker)})
    await comes_to(client, lambda: (stream.queued, number_in(marker)), (64, 65))
    assert [chunk.index async for chunk in stream] == list(range(1000))


async def test_a_window_of_ones_own(client: Hub) -> None:
    stream = await client.stream("debug.count", {"n": 30}, window=Window(items=3))
    await comes_to(client, lambda: stream.queued, 3)
    assert [chunk.index async for chunk in stream] == list(range(30))


async def test_large_chunks_are_bounded_in_bytes(client: Hub) -> None:
    stream = await client.stream("lab.big_chunks", {"n": 40, "size": 100_000})
    await comes_to(client, lambda: stream.queued, 3)  # the third exceeds 256 KiB
    assert len([chunk async for chunk in stream]) == 40


async def test_a_slow_reader_delays_no_other(client: Hub) -> None:
    slow = await client.stream("debug.count", {"n": 500})
    fast = await client.stream("debug.count", {"n": 500})
    assert len([chunk async for chunk in fast]) == 500
    assert await client.call("debug.echo", {"value": 1}) == 1
    assert len([chunk async for chunk in slow]) == 500


async def test_one_that_is_not_read_can_be_given_up(client: Hub, tmp_path: Path) -> None:
    marker = tmp_path / "m"
    stream = await client.stream("lab.flood", {"n": 10**6, "marker": str(marker)})
    await asyncio.to_thread(eventually, marker.exists, "it runs")
    await stream.aclose()
    await asyncio.to_thread(eventually, Path(f"{marker}.closed").exists, "the generator was closed")


async def test_no_credit_is_given_to_a_stream_that_is_over() -> None:
    def answer(message: dict[str, Any]) -> list[dict[str, Any]]:
        if message["method"] != "numbers":
            return agreeable(message) if "id" in message else []
        end = {"jsonrpc": "2.0", "id": message["id"], "result": "end"}
        return [*(chunk(message["id"], index) for index in range(4)), final(message["id"], 4), end]

    async with scripted_hub(answer) as hub, connect(hub.url) as client:
        stream = await client.stream("numbers", window=Window(items=4))
        await client.call("rpc.ping", {"topic": ""})
        assert [item.data async for item in stream] == [0, 1, 2, 3]
        assert stream.result == "end"
        await client.call("rpc.ping", {"topic": ""})
        assert hub.calls("stream.credit") == []


async def test_credit_is_absolute() -> None:
    def answer(message: dict[str, Any]) -> list[dict[str, Any]]:
        if message["method"] != "numbers":
            return agreeable(message) if "id" in message else []
        return [chunk(message["id"], index) for index in range(5)]

    async with scripted_hub(answer) as hub, connect(hub.url) as client:
        stream = aiter(await client.stream("numbers", window=Window(items=4)))
        for _ in range(5):
            await anext(stream)
        await hub.wait_for("stream.credit", 2)
        request = hub.calls("numbers")[0]
        assert request["metadata"]["window"] == {"items": 4, "bytes": 262144}
        await hub.send(final(request["id"], 5))
        await hub.send({"jsonrpc": "2.0", "id": request["id"], "result": None})
        with pytest.raises(StopAsyncIteration):
            await anext(stream)
        await client.call("rpc.ping", {"topic": ""})
        assert [message["params"] for message in hub.calls("stream.credit")] == [
            {"request_id": request["id"], "consumed": 2},
            {"request_id": request["id"], "consumed": 4},
        ]


async def test_a_stream_that_ends_without_its_final_chunk_is_an_error() -> None:
    def answer(message: dict[str, Any]) -> list[dict[str, Any]]:
        return [chunk(message["id"], 0), {"jsonrpc": "2.0", "id": message["id"], "result": None}]

    async with scripted_hub(answer) as hub, connect(hub.url) as client:
        with pytest.raises(RpcError, match="the stream ended after 1 chunks, none of them final"):
            await client.stream("numbers").wait()


async def test_a_chunk_that_is_missing_is_an_error() -> None:
    def answer(message: dict[str, Any]) -> list[dict[str, Any]]:
        return [chunk(message["id"], 1)] if "id" in message else []

    async with scripted_hub(answer) as hub, connect(hub.url) as client:
        with pytest.raises(RpcError, match="chunk 0 is missing") as caught:
            async for _ in await client.stream("numbers"):
                pass
        assert caught.value.code == ErrorCode.SERIALIZATION_ERROR
        await hub.wait_for("$/cancelRequest")


# --- input ---


class Source:
    """An endless input that tells how far it was asked and whether it was closed."""

    def __init__(self, item: Any = 1) -> None:
        self.taken = 0
        self.closed = False
        self._item = item

    async def __aiter__(self) -> AsyncIterator[Any]:
        try:
            while True:
                self.taken += 1
                yield self._item
                await asyncio.sleep(0)
        finally:
            self.closed = True


async def test_items_of_any_iterable(client: Hub) -> None:
    async def numbers() -> AsyncIterator[int]:
        for number in (1, 2, 3):
            yield number

    def plain() -> Iterator[int]:
        yield from (4, 5)

    assert await client.call("lab.sum", {"start": 10}, input=numbers()) == 16
    assert await client.call("lab.sum", input=plain()) == 9
    assert await client.call("lab.sum", input=[]) == 0
    assert await client.call("lab.sum", input=range(1000)) == 499_500


async def test_it_is_read_no_further_than_the_method_takes_it(client: Hub, tmp_path: Path) -> None:
    marker = tmp_path / "m"
    marker.touch()
    source = Source()
    call = asyncio.create_task(client.call("lab.picky", {"marker": str(marker)}, input=source))
    await comes_to(client, lambda: source.taken, 64)
    marker.write_text("x" * 20)
    await comes_to(client, lambda: source.taken, 64 + 16)
    call.cancel()
    await asyncio.wait([call])
    assert source.closed
    await asyncio.to_thread(eventually, Path(f"{marker}.ended").exists, "the method was told")


async def test_large_items_are_bounded_in_bytes(client: Hub, tmp_path: Path) -> None:
    marker = tmp_path / "m"
    marker.touch()
    source = Source("x" * 100_000)
    call = asyncio.create_task(client.call("lab.picky", {"marker": str(marker)}, input=source))
    await comes_to(client, lambda: source.taken, 3)
    call.cancel()
    await asyncio.wait([call])


async def test_input_and_chunks_at_once(client: Hub) -> None:
    stream = await client.stream("lab.echo_input", input=range(2000))
    assert [chunk.data async for chunk in stream] == list(range(2000))


async def test_an_input_that_raises_cancels_the_call(client: Hub, tmp_path: Path) -> None:
    marker = tmp_path / "m"
    marker.touch()

    async def broken() -> AsyncIterator[int]:
        yield 1
        await asyncio.to_thread(eventually, Path(f"{marker}.started").exists, "it runs")
        raise LookupError("a bug of the input's")

    with pytest.raises(LookupError, match="a bug of the input's"):
        await client.call("lab.picky", {"marker": str(marker)}, input=broken())
    await asyncio.to_thread(eventually, Path(f"{marker}.ended").exists, "the method was told")
    with pytest.raises(ValueError, match="item 1 of the input"):
        await client.call("lab.sum", input=[1, {1, 2}])


async def test_when_the_call_ends_first_the_input_is_closed(client: Hub) -> None:
    source = Source("no number")
    with pytest.raises(RpcError) as caught:
        await client.call("lab.sum", input=source)
    assert caught.value.code == ErrorCode.INVALID_PARAMS
    assert source.closed
    other = Source()
    async for _ in await client.stream("lab.echo_input", input=other):
        break
    await until(lambda: other.closed, "Python closes the iterator that was left some turns later")


async def test_when_the_client_is_closed_the_input_is(lab_hub: RunningHub) -> None:
    source = Source()
    async with connect(lab_hub.url) as client:
        await client.stream("lab.echo_input", input=source)
        await until(lambda: source.taken, "it is read")
    assert source.closed


async def _until_disconnected(stream: AsyncIterator[Any]) -> AsyncIterator[Any]:
    with suppress(DisconnectedError):
        async for chunk in stream:
            yield chunk
        raise AssertionError("it ended well")


async def test_while_it_is_away_input_waits(lab_hub: RunningHub) -> None:
    source = Source()
    async with through_proxy(lab_hub.port) as (proxy, client):
        changes = Changes(client)
        stream = aiter(await client.stream("lab.echo_input", input=source))
        await anext(stream)
        proxy.refuse()
        proxy.cut()
        await changes.wait_for("reconnecting")
        assert await standstill(lambda: source.taken) < 1000
        proxy.refuse(False)
        for _ in range(500):
            await asyncio.wait_for(anext(stream), PATIENCE)
    rest = [chunk async for chunk in _until_disconnected(stream)]
    assert len(rest) <= 64
