"""Whatever a method raises is its caller's outcome, at once, and nobody else's business: without a hub."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.methods.packs import closing, doubtful, feeding, raising
from tests.support.modules import endings
from tests.support.timing import PATIENCE, until
from trunkline.methods.local import LocalMethods
from trunkline_protocol.errors import ErrorCode, RpcError

CALLED = ("function", "coroutine", "later", "helped", "awaited_task", "parameter", "result", "thread_result")
STREAMED = ("generator_finally", "async_generator_finally", "chunk")
CHECKED = {"parameter", "result", "thread_result", "chunk"}
"""What runs inside pydantic and orjson, which make errors of their own of some."""
LEAVES_THE_LOOP = {"interrupt", "exit", "argparse"}
"""What a task of the test's own loop raises ends that loop: an executor's goes on, see tests/faults."""


@pytest.fixture
async def methods() -> AsyncIterator[LocalMethods]:
    async with LocalMethods(endings) as local:
        yield local


async def failure(outcome: Any) -> RpcError:
    with pytest.raises(RpcError) as caught:
        await asyncio.wait_for(outcome, PATIENCE)
    return caught.value


def require_named(error: RpcError, name: str, kind: str) -> None:
    invalid = name == "parameter" and kind == "huge"  # a ValueError is how a validator refuses
    code = ErrorCode.INTERNAL_ERROR if name not in CHECKED or name == "parameter" else ErrorCode.SERIALIZATION_ERROR
    assert error.code == (ErrorCode.INVALID_PARAMS if invalid else code), error.message
    if name not in CHECKED or kind not in ("surrogate", "huge", "base_group"):
        assert endings.BAD[kind][1] in error.message
    assert len(error.message) < 10_000
    error.message.encode()


@pytest.mark.parametrize("kind", endings.BAD)
@pytest.mark.parametrize("name", CALLED)
async def test_a_call_that_ends_badly(methods: LocalMethods, name: str, kind: str) -> None:
    if name == "awaited_task" and kind in LEAVES_THE_LOOP:
        pytest.skip("it ends the test's own loop")
    error = await failure(methods.call(f"endings.{name}", {"kind": kind}))
    require_named(error, name, kind)
    assert error.maybe_executed is (name != "parameter")
    assert await methods.call("endings.pid") == await methods.call("endings.thread_pid")


@pytest.mark.parametrize("kind", endings.BAD)
@pytest.mark.parametrize("after", [0, 3])
@pytest.mark.parametrize("name", ["generator", "async_generator"])
async def test_a_stream_that_ends_badly(methods: LocalMethods, name: str, after: int, kind: str) -> None:
    got: list[Any] = []

    async def read() -> None:
        async for chunk in methods.stream(f"endings.{name}", {"kind": kind, "after": after}):
            got.append(chunk.data)  # noqa: PERF401  what came ahead of the error counts

    require_named(await failure(read()), name, kind)
    assert got == list(range(after))
    assert await methods.call("endings.pid") == await methods.call("endings.thread_pid")


@pytest.mark.parametrize("kind", endings.BAD)
@pytest.mark.parametrize("name", STREAMED)
async def test_a_stream_whose_last_act_is_bad(methods: LocalMethods, name: str, kind: str) -> None:
    async def read() -> None:
        async for _chunk in methods.stream(f"endings.{name}", {"kind": kind}):
            pass

    require_named(await failure(read()), name, kind)
    assert await methods.call("endings.pid") == await methods.call("endings.thread_pid")


@pytest.mark.parametrize(
    "kind", [kind for kind in endings.BAD if kind != "generator_exit"]
)  # that is how closing ends well
async def test_a_generator_that_is_closed_and_ends_badly(methods: LocalMethods, kind: str) -> None:
    async def read() -> None:
        async for _chunk in methods.stream("endings.closed_badly", {"kind": kind}):
            pass

    require_named(await failure(read()), "closed_badly", kind)


@pytest.mark.parametrize("name", ["hang", "hang_in_generator"])
async def test_a_cancel_by_the_caller_is_still_a_cancel(methods: LocalMethods, name: str) -> None:
    begun = asyncio.Event()
    endings.waits.append(begun)
    call = asyncio.create_task(methods.call(f"endings.{name}"))
    await asyncio.wait_for(begun.wait(), PATIENCE)
    (call_id,) = methods._running
    methods._runner.cancel(call_id)
    assert (await failure(call)).code == ErrorCode.CANCELLED


async def test_every_instance_is_closed_though_the_first_refuses() -> None:
    closing.closed.clear()
    with pytest.raises(closing.Refusal):
        async with LocalMethods(closing):
            pass
    assert closing.closed == ["first", "second"]


@pytest.mark.parametrize("kind", endings.BAD)
async def test_a_release_that_ends_badly_holds_up_no_other(kind: str) -> None:
    closing.released.clear()
    methods = LocalMethods(closing)
    closing.release_by = lambda: endings.end_badly(kind)
    try:
        with pytest.raises(BaseException):  # noqa: B017  any of them
            await methods._registry.release(lambda _key: True)
    finally:
        closing.release_by = closing.nothing
    assert closing.released == ["second"]


async def test_input_that_ends_badly_ends_its_call() -> None:
    async def items() -> AsyncIterator[int]:
        yield 1
        raise endings.Own("no more")

    async with LocalMethods(feeding) as methods:
        with pytest.raises(endings.Own, match="no more"):
            await asyncio.wait_for(methods.call("feed.sum", input=items()), PATIENCE)


@pytest.mark.parametrize(
    ("name", "given", "maybe"),
    [("silent", None, True), ("nothing", None, False), ("nested", None, True), ("took", [1], True)],
)
async def test_a_method_may_say_that_it_has_done_nothing(name: str, given: list[int] | None, maybe: bool) -> None:
    async with LocalMethods(doubtful) as methods:
        error = await failure(methods.call(f"doubtful.{name}", input=given))
    assert (error.code, error.maybe_executed) == (ErrorCode.INVALID_CONFIGURATION, maybe)


@pytest.fixture
async def raising_methods(caplog: pytest.LogCaptureFixture) -> AsyncIterator[LocalMethods]:
    caplog.set_level("CRITICAL", "trunkline.methods")  # the log's records hold what they tell of
    raising.raised.clear()
    raising.lengths.clear()
    async with LocalMethods(raising) as local:
        yield local


@pytest.mark.parametrize("name", ["function", "coroutine", "batched", "batched_later", "generator", "async_generator"])
async def test_what_was_raised_is_freed_without_the_collector(raising_methods: LocalMethods, name: str) -> None:
    async def run() -> None:
        if name.startswith("batched"):
            await asyncio.gather(
                *(failure(raising_methods.call(f"raising.{name}", {"number": each})) for each in range(3))
            )
        elif "generator" in name:
            with pytest.raises(RpcError, match="freed at once"):
                async for _chunk in raising_methods.stream(f"raising.{name}"):
                    pass
        else:
            await failure(raising_methods.call(f"raising.{name}"))

    gc.disable()
    try:
        await run()
        assert raising.raised
        # What ends soon still has it: the call's task, and its thread, on the way back to where it waits.
        await until(lambda: not any(each() for each in raising.raised), "it is freed")
    finally:
        gc.enable()


async def test_calls_that_fail_together_do_not_lengthen_each_others_traceback(raising_methods: LocalMethods) -> None:
    calls = (failure(raising_methods.call("raising.batched_together", {"number": each})) for each in range(8))
    await asyncio.gather(*calls)
    assert len(raising.lengths) >= 8
    assert len(set(raising.lengths)) == 1
