"""How many calls of one method run at once in an executor; those that wait hold no slot."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from tests.methods.packs import bounded
from tests.support.timing import PATIENCE
from trunkline.methods.declaration import RegistrationError, method
from trunkline.methods.local import LocalMethods
from trunkline.methods.registry import Registry
from trunkline_protocol.errors import ErrorCode, RpcError


@pytest.fixture
async def methods() -> AsyncIterator[LocalMethods]:
    bounded.gate = asyncio.Event()
    bounded.running.update(now=0, most=0)
    async with LocalMethods(bounded) as local:
        yield local
        bounded.gate.set()


async def settled(ready: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not ready():
            await asyncio.sleep(0)


async def test_so_many_run_at_once_and_the_others_in_their_order(methods: LocalMethods) -> None:
    calls = [asyncio.ensure_future(methods.call("bounded.call")) for _ in range(50)]
    await settled(lambda: bounded.running["now"] == 2)
    assert await methods.call("bounded.free") == 7, "those that wait hold none of the slots"
    bounded.gate.set()
    assert await asyncio.gather(*calls) == [1] * 50
    assert bounded.running == {"now": 0, "most": 2}


async def test_a_stream_is_bounded_as_a_call_is(methods: LocalMethods) -> None:
    async def read() -> list[Any]:
        return [chunk.data async for chunk in methods.stream("bounded.stream")]

    reads = [asyncio.ensure_future(read()) for _ in range(5)]
    await settled(lambda: bounded.running["now"] == 1)
    bounded.gate.set()
    assert await asyncio.gather(*reads) == [[1]] * 5
    assert bounded.running["most"] == 1


async def test_one_that_waits_can_be_cancelled_and_has_not_run(methods: LocalMethods) -> None:
    calls = [asyncio.ensure_future(methods.call("bounded.call")) for _ in range(3)]
    await settled(lambda: bounded.running["now"] == 2)
    (waiting,) = methods._running - {1, 2}
    methods._runner.cancel(waiting)
    with pytest.raises(RpcError) as cancelled:
        await calls[2]
    assert (cancelled.value.code, cancelled.value.maybe_executed) == (ErrorCode.CANCELLED, False)
    bounded.gate.set()
    assert await asyncio.gather(*calls[:2]) == [1, 1]


def registered(function: Any, **options: Any) -> None:
    marked = method("m.f", **options)(function)
    Registry()._add(marked, marked.__trunkline_method__, "m")


def test_limits_that_mean_nothing_are_refused_at_load() -> None:
    async def coroutine() -> int:
        return 1

    def plain() -> int:
        return 1

    for option in ("max_concurrency", "max_calls", "rate"):
        for number in (0, -1, float("nan"), float("inf")):
            with pytest.raises(RegistrationError, match=f"{option}="):
                registered(coroutine, **{option: number})
    with pytest.raises(RegistrationError, match="a plain function runs alone"):
        registered(plain, max_concurrency=2)
    registered(plain, max_calls=2, rate=0.5)
