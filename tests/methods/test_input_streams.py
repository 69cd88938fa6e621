"""Methods that take input: what arrives, in which form, how far ahead, and what ends it."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterator
from types import ModuleType
from typing import Any

import pytest

from tests.methods.packs import feeding
from tests.support.timing import PATIENCE, until
from trunkline.control.rpc import describe
from trunkline.defaults import MAX_CONCURRENCY
from trunkline.methods.binding import Binding
from trunkline.methods.context import Context
from trunkline.methods.declaration import RegistrationError, method
from trunkline.methods.inputs import InputStream
from trunkline.methods.local import LocalMethods
from trunkline.methods.registry import Registry
from trunkline_protocol import binary
from trunkline_protocol.errors import ErrorCode, RpcError
from trunkline_protocol.inputs import INPUT_WINDOW, INPUT_WINDOW_BYTES


@pytest.fixture
async def methods() -> AsyncIterator[LocalMethods]:
    feeding.seen.clear()
    feeding.kept.clear()
    async with LocalMethods(feeding) as local:
        yield local


async def error_of(call: Any) -> RpcError:
    with pytest.raises(RpcError) as caught:
        await asyncio.wait_for(call, PATIENCE)
    return caught.value


class Feed:
    """Items as a test gives them; notices how many were fetched."""

    def __init__(self, *first: Any) -> None:
        self.queue: asyncio.Queue[Any] = asyncio.Queue()
        self.fetched = 0
        self.give(*first)

    def give(self, *items: Any) -> None:
        for item in items:
            self.queue.put_nowait(item)

    async def __aiter__(self) -> AsyncIterator[Any]:
        while (item := await self.queue.get()) is not StopAsyncIteration:
            self.fetched += 1
            yield item


# --- items ---


async def test_items_arrive_in_order_beside_params(methods: LocalMethods) -> None:
    assert await methods.call("feed.sum", {"start": 100}, input=[1, 2, 3]) == 106
    assert await methods.call("feed.sum", [5], input=[]) == 5
    assert await methods.call("feed.any", input=[None, [1], {"a": "b"}, 1.5]) == [None, [1], {"a": "b"}, 1.5]


async def test_bytes_come_as_base64(methods: LocalMethods) -> None:
    result = await methods.call("feed.bytes", input=[b"\x00\xff", b"", b"abc"])
    assert result == {"pieces": 3, "text": "\x00ÿabc"}
    assert (await methods.call("feed.bytes", input=["aGk", "_-8="]))["text"] == "hi\xff\xef"
    error = await error_of(methods.call("feed.bytes", input=["aGk=", "no base64!"]))
    assert (error.code, error.data["index"]) == (ErrorCode.INVALID_PARAMS, 1)


async def test_a_stream_of_a_stream(methods: LocalMethods) -> None:
    stream = methods.stream("feed.values", input=({"at": n, "value": n / 2} for n in range(300)))
    assert [chunk.data async for chunk in stream] == [n / 2 for n in range(300)]
    assert stream.result == {"chunks": 300}


async def test_items_arrive_while_the_method_answers(methods: LocalMethods) -> None:
    feed = Feed({"at": 0, "value": 1.0})
    stream = aiter(methods.stream("feed.values", input=feed))
    assert (await anext(stream)).data == 1.0
    feed.give({"at": 1, "value": 2.0})
    assert (await anext(stream)).data == 2.0
    feed.give(StopAsyncIteration)
    with pytest.raises(StopAsyncIteration):
        await anext(stream)


@pytest.mark.parametrize(
    ("name", "items", "index", "words"),
    [
        ("feed.sum", [1, 2, "x", 4], 2, "item 2 of the input: item: Input should be a valid integer"),
        ("feed.sum", [None], 0, "item 0"),
        ("feed.values", [{"at": 1}, {"at": "soon"}], 1, r"item 1 of the input: item\.at: "),
        ("feed.values", [{"at": 1, "value": "inf"}] * 2, None, None),  # a model's own business
        ("feed.small", [9, 9, 10], 2, "less than or equal to 9"),
    ],
)
async def test_bad_items_end_the_call_and_are_named(
    methods: LocalMethods, name: str, items: list[Any], index: int | None, words: str | None
) -> None:
    async def ask() -> Any:
        if name == "feed.values":
            return [chunk.data async for chunk in methods.stream(name, input=items)]
        return await methods.call(name, input=items)

    error = await error_of(ask())
    if index is None:
        assert error.code == ErrorCode.SERIALIZATION_ERROR
        return
    assert words is not None
    assert (error.code, error.data["index"], error.maybe_executed) == (ErrorCode.INVALID_PARAMS, index, True)
    assert error.data["errors"]
    with pytest.raises(RpcError, match=words):
        raise error


async def test_a_bad_item_ends_the_call_whatever_the_method_does(methods: LocalMethods) -> None:
    error = await error_of(methods.call("feed.careless", input=[1, "x", 3]))
    assert (error.code, error.data["index"]) == (ErrorCode.INVALID_PARAMS, 1)
    assert feeding.seen == [1] + [ErrorCode.INVALID_PARAMS] * 3


async def test_bad_params_come_before_any_item(methods: LocalMethods) -> None:
    error = await error_of(methods.call("feed.sum", {"start": "x"}, input=[1]))
    assert (error.code, error.maybe_executed) == (ErrorCode.INVALID_PARAMS, False)


async def test_the_input_is_not_a_param(methods: LocalMethods) -> None:
    error = await error_of(methods.call("feed.sum", {"numbers": [1]}))
    assert error.code == ErrorCode.INVALID_PARAMS


# --- pace ---


@pytest.mark.parametrize(("size", "most"), [(1, INPUT_WINDOW), (INPUT_WINDOW_BYTES // 4, 4), (2**20, 1)])
async def test_no_more_than_a_window_ahead(methods: LocalMethods, size: int, most: int) -> None:
    fetched = furthest = 0

    def items() -> Iterator[str]:
        nonlocal fetched, furthest
        while True:
            fetched += 1
            furthest = max(furthest, fetched - Reader.taken)
            yield "x" * size

    class Reader:
        """A method whose test decides when it reads."""

        go = asyncio.Semaphore(0)
        took = asyncio.Semaphore(0)
        taken = 0

        @method("reader.read")
        async def read(self, items: InputStream[str]) -> None:
            async for _ in items:
                Reader.taken += 1
                Reader.took.release()
                await Reader.go.acquire()

    module = ModuleType("reader")
    Reader.__module__ = "reader"
    module.Reader = Reader  # type: ignore[attr-defined]
    async with LocalMethods(module) as local:
        call = asyncio.ensure_future(local.call("reader.read", input=items()))
        async with asyncio.timeout(PATIENCE):
            for _ in range(40):
                await Reader.took.acquire()
                Reader.go.release()
        assert furthest == most + 1, "one is fetched and waits for its turn"
        call.cancel()


async def test_a_long_input_is_never_stuck(methods: LocalMethods) -> None:
    assert await asyncio.wait_for(methods.call("feed.sum", input=itertools.repeat(1, 20_000)), PATIENCE) == 20_000
    large = ["x" * 100_000] * 100
    assert len(await asyncio.wait_for(methods.call("feed.any", input=large), PATIENCE)) == 100


async def test_waiting_for_input_gives_the_slot_back(methods: LocalMethods) -> None:
    """More calls wait for input than there are slots, and others run."""
    feeds = [Feed() for _ in range(100)]
    calls = [asyncio.ensure_future(methods.call("feed.sum", input=feed)) for feed in feeds]
    await until(lambda: methods._runner._free_slots == MAX_CONCURRENCY, "all wait, and take no slot")
    assert await asyncio.wait_for(methods.call("feed.sum", input=[1]), PATIENCE) == 1
    for feed in feeds:
        feed.give(1, 2, StopAsyncIteration)
    assert await asyncio.gather(*calls) == [3] * 100
    assert methods._runner._free_slots == MAX_CONCURRENCY


async def test_waiting_with_breaks_keeps_the_books_right(methods: LocalMethods) -> None:
    feed = Feed()
    call = asyncio.ensure_future(methods.call("feed.patient", input=feed))
    await until(lambda: feeding.seen.count("a break") >= 2, "it took breaks")
    feed.give(1, 2, StopAsyncIteration)
    assert await call % 1000 == 2
    assert call.result() >= 2000
    assert methods._runner._free_slots == MAX_CONCURRENCY


# --- ends ---


async def test_a_cancel_ends_the_wait(methods: LocalMethods) -> None:
    call = asyncio.ensure_future(methods.call("feed.hang", input=Feed("a")))
    await until(lambda: feeding.seen == ["a"], "it is read")
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await until(lambda: feeding.seen == ["a", "left"], "it has heard of it")
    assert methods._runner._free_slots == MAX_CONCURRENCY


async def test_a_method_may_leave_the_rest(methods: LocalMethods) -> None:
    feed = Feed("a", "b", "c")
    assert await methods.call("feed.first", input=feed) == "a"
    (items,) = feeding.kept
    error = await error_of(anext(items))
    assert (error.code, error.maybe_executed) == (ErrorCode.CANCELLED, True)


async def test_tasks_that_outlive_the_call_are_told(methods: LocalMethods) -> None:
    assert await methods.call("feed.background", input=Feed()) == "gone"
    await until(lambda: ErrorCode.CANCELLED in feeding.seen, "it has heard of it")


async def test_two_readers_are_refused(methods: LocalMethods) -> None:
    error = await error_of(methods.call("feed.quarrel", input=Feed()))
    assert (error.code, "two tasks" in error.message) == (ErrorCode.INTERNAL_ERROR, True)


async def test_what_the_callers_items_raise_is_the_callers(methods: LocalMethods) -> None:
    async def broken() -> AsyncIterator[int]:
        yield 1
        raise LookupError("no more tape")

    with pytest.raises(LookupError, match="tape"):
        await methods.call("feed.sum", input=broken())
    with pytest.raises(LookupError, match="tape"):
        _ = [chunk async for chunk in methods.stream("feed.values", input=broken())]


async def test_input_for_a_method_that_takes_none() -> None:
    from tests.methods.packs import sample

    async with LocalMethods(sample) as local:
        assert (await error_of(local.call("text.upper", {"text": "a"}, input=[1]))).code == ErrorCode.INVALID_PARAMS


async def test_a_method_cannot_feed_another(methods: LocalMethods) -> None:
    """It has no way to push: better a refusal than a wait for nothing."""
    error = await error_of(methods.call("feed.relay", {"method": "feed.sum"}))
    assert (error.code, "clients push" in error.message) == (ErrorCode.INVALID_PARAMS, True)


# --- the catalogue ---


def test_the_catalogue_says_what_the_items_are() -> None:
    registry = Registry()
    registry.add_module(feeding)
    infos = {info.name: info for info in registry.catalogue().methods}
    assert infos["feed.sum"].input == {"type": "integer"}
    assert [parameter.name for parameter in infos["feed.sum"].parameters] == ["start"]
    assert infos["feed.any"].input == {}
    assert infos["feed.bytes"].input == {"anyOf": [binary.SCHEMA, binary.BASE64]}
    sample = infos["feed.values"].input
    assert sample is not None
    assert (sample["title"], sample["required"]) == ("Sample", ["at"])
    assert describe(infos["feed.sum"])["x-trunkline"]["input"] == {"type": "integer"}
    assert describe(infos["feed.any"])["x-trunkline"]["input"] == {}


def test_a_method_without_input_says_nothing_of_it() -> None:
    from tests.methods.packs import sample

    registry = Registry()
    registry.add_module(sample)
    for info in registry.catalogue().methods:
        assert info.input is None
        assert "input" not in describe(info)["x-trunkline"]


def test_plain_functions_cannot_wait() -> None:
    @method("bad.plain")
    def plain(items: InputStream[int]) -> int:
        return 0

    @method("bad.generator")
    def generator(items: InputStream[int]) -> Iterator[int]:
        yield 0

    for function in (plain, generator):
        module = ModuleType("bad")
        module.function = function  # type: ignore[attr-defined]
        with pytest.raises(RegistrationError, match="async def"):
            Registry().add_module(module)


def test_one_input_a_call() -> None:
    async def two(left: InputStream[int], right: InputStream[int], ctx: Context) -> int:
        return 0

    with pytest.raises(TypeError, match=r"left.*right"):
        Binding(two, "two", streaming=False)


def test_items_json_cannot_carry() -> None:
    class Opaque:
        pass

    async def opaque(items: InputStream[Opaque]) -> int:
        return 0

    opaque.__annotations__["items"] = InputStream[Opaque]
    with pytest.raises(TypeError, match="opaque"):
        Binding(opaque, "opaque", streaming=False)
