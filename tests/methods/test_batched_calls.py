"""Calls of one method that come together, run as one call of its function."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.methods.packs import batched
from tests.support.timing import PATIENCE
from trunkline.methods.declaration import Batch, RegistrationError, method
from trunkline.methods.local import LocalMethods
from trunkline.methods.registry import Registry
from trunkline_protocol.errors import ErrorCode, RpcError


@pytest.fixture
async def methods() -> AsyncIterator[LocalMethods]:
    batched.batches.clear()
    batched.gate.clear()
    async with LocalMethods(batched) as local:
        yield local
        batched.gate.set()


def calls(methods: LocalMethods, name: str, numbers: list[int]) -> list[asyncio.Task[Any]]:
    return [asyncio.ensure_future(methods.call(f"batched.{name}", {"number": number})) for number in numbers]


async def outcomes(started: list[asyncio.Task[Any]]) -> list[Any]:
    return await asyncio.gather(*started, return_exceptions=True)


async def test_one_alone_runs_at_once_and_what_comes_meanwhile_is_the_next_batch(methods: LocalMethods) -> None:
    first = asyncio.ensure_future(methods.call("batched.upper", {"text": "a", "times": 1}))
    while not batched.batches:
        await asyncio.sleep(0.001)
    assert batched.batches == [["a"]]
    params = [{"text": text, "times": 2} for text in "bcdefg"]
    others = [asyncio.ensure_future(methods.call("batched.upper", each)) for each in params]
    for _ in range(10):  # until all of them wait for the first one
        await asyncio.sleep(0)
    batched.gate.set()
    assert await first == "A"
    assert await asyncio.gather(*others) == [text * 2 for text in "BCDEFG"]
    assert batched.batches[1:] == [list("bcde"), list("fg")], "no more than four at once, in order"


async def test_a_call_fails_alone(methods: LocalMethods) -> None:
    started = calls(methods, "each", [1, -1, 3])
    one, fault, three = await outcomes(started)
    assert (one, three) == (12, 36)
    assert isinstance(fault, RpcError)
    assert (fault.code, fault.message) == (ErrorCode.PIPELINE_NOT_FOUND, "no such number")


async def test_where_all_fail_an_idempotent_method_runs_each_alone(methods: LocalMethods) -> None:
    one, thirteen, three = await outcomes(calls(methods, "each", [1, 13, 3]))
    assert (one, three) == (12, 36)
    assert isinstance(thirteen, RpcError)
    assert "ValueError" in thirteen.message
    assert batched.batches[-3:] == [["1"], ["13"], ["3"]]


async def test_what_may_have_run_does_not_run_again(methods: LocalMethods) -> None:
    found = await outcomes(calls(methods, "once", [1, 13, 3]))
    assert all(isinstance(each, RpcError) and each.maybe_executed for each in found)
    ran = [number for batch in batched.batches for number in batch]
    assert len(ran) == len(set(ran))


async def test_not_one_result_a_call_is_an_error_of_each(methods: LocalMethods) -> None:
    found = await outcomes(calls(methods, "few", [1, 2]))
    assert [each.code for each in found] == [ErrorCode.SERIALIZATION_ERROR] * 2
    assert "for a batch of" in found[0].message


async def test_items_and_results_are_checked_one_by_one(methods: LocalMethods) -> None:
    good, bad = await outcomes([*calls(methods, "once", [1]), *calls(methods, "once", ["x"])])  # type: ignore[list-item]
    assert good == 1
    assert bad.code == ErrorCode.INVALID_PARAMS
    (wrong,) = await outcomes(calls(methods, "typed", [1]))
    assert wrong.code == ErrorCode.SERIALIZATION_ERROR


async def test_a_batch_waits_for_others_where_it_is_told_to(methods: LocalMethods) -> None:
    started = calls(methods, "patient", [1, 2])
    for _ in range(10):
        await asyncio.sleep(0)
    assert batched.batches == []
    started += calls(methods, "patient", [3])
    assert await outcomes(started) == [1, 2, 3]
    assert batched.batches == [["1", "2", "3"]]


async def test_a_cancelled_call_is_in_no_batch(methods: LocalMethods) -> None:
    started = calls(methods, "patient", [1, 2])
    for _ in range(10):
        await asyncio.sleep(0)
    started[0].cancel()
    for _ in range(10):
        await asyncio.sleep(0)
    started += calls(methods, "patient", [3])
    await asyncio.sleep(0)
    started += calls(methods, "patient", [4])
    assert (await outcomes(started))[1:] == [2, 3, 4]
    assert "1" not in [number for batch in batched.batches for number in batch]


async def test_a_cancel_reaches_the_function_once_nobody_wants_its_batch(methods: LocalMethods) -> None:
    first = calls(methods, "hangs", [1])
    await runs("1")
    second = calls(methods, "hangs", [2, 3])
    first[0].cancel()
    await runs("ended", "2", "3")
    second[0].cancel()
    await asyncio.sleep(0)
    assert batched.batches[-1] == ["2", "3"], "one call still wants it"
    second[1].cancel()
    await asyncio.wait(second)
    assert batched.batches[-1] == ["ended"]
    assert await outcomes(calls(methods, "once", [7])) == [7]


async def runs(*last: str) -> None:
    """Wait until these were the last numbers to run."""
    async with asyncio.timeout(PATIENCE):
        while [number for batch in batched.batches for number in batch][-len(last) :] != list(last):
            await asyncio.sleep(0.001)


async def test_a_plain_function_that_runs_is_waited_for(methods: LocalMethods) -> None:
    call = asyncio.ensure_future(methods.call("batched.upper", {"text": "a", "times": 1}))
    await runs("a")
    call.cancel()
    await asyncio.wait([call])
    running = methods._runner._running
    assert len(running) == 1, "its thread is not free, so that its slot is not"
    batched.gate.set()
    async with asyncio.timeout(PATIENCE):
        while running:
            await asyncio.sleep(0.001)


async def test_whatever_it_raises_is_the_outcome_of_its_calls(methods: LocalMethods) -> None:
    found = await outcomes(calls(methods, "exits", [1, 2]))
    assert [each.code for each in found] == [ErrorCode.INTERNAL_ERROR] * 2
    assert await outcomes(calls(methods, "once", [7])) == [7]


def refusal(function: Any, **options: Any) -> str:
    registry = Registry()
    marked = method("m.f", **options)(function)
    with pytest.raises(RegistrationError) as refused:
        registry._add(marked, marked.__trunkline_method__, "m")
    return str(refused.value)


def test_what_cannot_be_batched_is_refused_at_load() -> None:
    async def stream(text: list[str]) -> AsyncIterator[str]:
        yield text[0]

    def single(text: str) -> list[str]:
        return [text]

    def bare(text: list[str]) -> str:
        return text[0]

    def default(text: list[str], times: list[int] = []) -> list[str]:  # noqa: B006
        return text

    batch = Batch()
    assert "a stream is one call's own" in refusal(stream, batch=batch)
    assert "text is annotated list[T], of one T a call; not str" in refusal(single, batch=batch)
    assert "its result is annotated list[T]" in refusal(bare, batch=batch)
    assert "times has a default" in refusal(default, batch=batch)
    for bad in ({"max_items": 0}, {"max_items": 5000}, {"max_wait_ms": -1}, {"max_wait_ms": 1e9}):
        with pytest.raises(RegistrationError, match=r"is no (integer|number)"):
            Batch(**bad)


def test_its_schemas_are_those_of_one_call() -> None:
    registry = Registry()
    registry.add_module(batched)
    info = registry.methods["batched.each"].info
    assert [(each.name, each.schema["type"]) for each in info.parameters] == [("number", "integer")]
