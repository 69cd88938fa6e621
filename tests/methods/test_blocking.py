"""Plain functions that wait for calls; contexts after their call, and of the executor's own: no hub."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.support.modules import callers, waiters
from tests.support.timing import PATIENCE, until
from trunkline.methods.local import LocalMethods
from trunkline.methods.turns import Turns
from trunkline_protocol.errors import ErrorCode, RpcError

PUBLISHED: list[Any] = []


def publish(params: Any) -> dict[str, Any]:
    PUBLISHED.append(params)
    return {"topic": params["topic"], "epoch": "e", "offset": len(PUBLISHED)}


@pytest.fixture
async def methods() -> AsyncIterator[LocalMethods]:
    waiters.SEEN.clear()
    PUBLISHED.clear()
    async with LocalMethods(waiters, callers, stubs={"publish": publish}) as local:
        yield local


async def within(work: Any) -> Any:
    return await asyncio.wait_for(work, PATIENCE)


async def test_a_plain_function_calls_a_coroutine(methods: LocalMethods) -> None:
    assert await within(methods.call("plain.call", {"method": "loop.lower", "params": {"text": "A"}})) == "a"


async def test_plain_functions_call_each_other_and_run_one_at_a_time(methods: LocalMethods) -> None:
    deep: dict[str, Any] = {"method": "plain.upper", "params": {"text": "a"}}
    for _ in range(5):
        deep = {"method": "plain.call", "params": deep}
    many = [methods.call("plain.call", deep) for _ in range(3)]
    assert await within(asyncio.gather(*many)) == ["A"] * 3
    assert len(waiters.SEEN) == 3 * (2 * 6 + 1)
    assert not [said for said in waiters.SEEN if said.endswith("with another")]


async def test_streams_are_read_to_their_end_or_left(methods: LocalMethods) -> None:
    assert await within(methods.call("plain.read", {"method": "loop.letters", "params": {"text": "abc"}})) == list(
        "abc"
    )
    endless = {"method": "loop.letters", "params": {"text": ""}, "at_most": 3}
    assert await within(methods.call("plain.read", endless)) == ["-"] * 3
    await until(lambda: waiters.SEEN == ["letters ended"] * 2, "what was left is cancelled")


async def test_what_it_publishes_is_stored(methods: LocalMethods) -> None:
    assert (await within(methods.call("plain.publish", {"topic": "a.b"})))["topic"] == "a.b"
    assert PUBLISHED[-1]["data"] == {"from": "a plain function"}


async def test_steps_of_plain_generators_and_threads_of_their_own(methods: LocalMethods) -> None:
    stream = methods.stream("plain.steps", {"words": ["a", "b"]})
    assert [chunk.data async for chunk in stream] == ["A", "B"]
    assert await within(methods.call("plain.threads", {"words": ["A", "B", "C"]})) == ["a", "b", "c"]


async def test_its_caller_is_told_below(methods: LocalMethods) -> None:
    assert (await within(methods.call("plain.call", {"method": "who.plain"})))["name"] == "anonymous"


async def test_an_error_of_the_other_is_raised(methods: LocalMethods) -> None:
    with pytest.raises(RpcError) as caught:
        await within(methods.call("plain.call", {"method": "loop.lower", "params": {"texts": 1}}))
    assert caught.value.code == ErrorCode.INVALID_PARAMS


async def test_a_cancel_ends_the_wait(methods: LocalMethods) -> None:
    calling = asyncio.create_task(methods.call("plain.ends", {"method": "loop.forever"}))
    await asyncio.sleep(0)
    waiting = methods.call("plain.call", {"method": "loop.lower", "params": {"text": "A"}})
    assert await within(waiting) == "a", "the thread is free meanwhile"
    calling.cancel()

    async def ended() -> bool:
        return "ended -32800" in waiters.SEEN and "forever ended" in waiters.SEEN

    await until(ended, "the function is told, and what it waits for is cancelled")
    assert await within(methods.call("plain.upper", {"text": "a"})) == "A"


@pytest.mark.parametrize("what", ["call", "stream", "publish"])
async def test_a_forgotten_await_is_named(methods: LocalMethods, what: str) -> None:
    with pytest.raises(RpcError, match=rf"ctx\.{what}: has to be awaited.* use ctx\.blocking\.{what}"):
        await within(methods.call("plain.forgot", {"what": what}))


async def test_blocking_the_loop_is_named(methods: LocalMethods) -> None:
    with pytest.raises(RpcError, match=r"ctx\.blocking\.call: would block the event loop.* await ctx\.call"):
        await within(methods.call("loop.blocks"))


async def test_a_context_after_its_call_is_named(methods: LocalMethods) -> None:
    await methods.call("own.go")
    with pytest.raises(RpcError, match=r"ctx\.call: the call of own\.go has ended.* load\(settings, ctx: Context\)"):
        await methods.call("own.late")


async def test_the_executors_own_context_lasts(methods: LocalMethods) -> None:
    assert PUBLISHED == [{"topic": "own.loaded", "data": {"worker": "local"}}], "in load"
    assert (await methods.call("own.go"))["offset"] == 1

    async def later() -> bool:
        return len(PUBLISHED) == 2

    await until(later, "a task that load began publishes after the call")
    assert PUBLISHED[1] == {"topic": "own.later", "data": {"who": "(executor)"}}
    assert (await methods.call("own.asks", {"method": "who.calls"}))["name"] == "(executor)"


async def test_turns_go_round_and_those_that_return_go_first() -> None:
    turns, seen = Turns(), list[str]()

    async def taker(name: str, *, first: bool = False) -> None:
        await turns.take(first=first)
        seen.append(name)

    await turns.take()
    tasks = [asyncio.create_task(taker(name)) for name in ("a", "gone", "b")]
    await asyncio.sleep(0)
    tasks.append(asyncio.create_task(taker("back", first=True)))
    tasks[1].cancel()
    await asyncio.sleep(0)
    for expected in (["back"], ["back", "a"], ["back", "a", "b"]):
        turns.pass_on()
        await asyncio.sleep(0)
        assert seen == expected
    turns.pass_on()
    await asyncio.wait_for(turns.take(), PATIENCE)


async def test_a_turn_that_comes_with_a_cancel_is_not_lost() -> None:
    turns = Turns()
    await turns.take()
    task = asyncio.create_task(turns.take())
    await asyncio.sleep(0)
    turns.pass_on()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.wait_for(turns.take(), PATIENCE)
