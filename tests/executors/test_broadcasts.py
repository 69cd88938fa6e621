"""What is asked of all executors, by themselves: who is asked, whose answers count, and what is told of the others."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from tests.support.doubles import Wire, ready_handle
from trunkline.executors import ipc
from trunkline.executors.broadcast import Broadcasts
from trunkline.executors.handle import ExecutorHandle
from trunkline_protocol.codecs.jsonrpc import encode_error_object
from trunkline_protocol.errors import ErrorCode, RpcError

pytestmark = pytest.mark.virtual_time


class Executors:
    """Three that are ready, and a broadcast to them."""

    def __init__(self) -> None:
        made = [ready_handle(index) for index in range(3)]
        self.handles = [handle for handle, _ in made]
        self._wires = dict(made)
        self.broadcasts = Broadcasts(self.handles)
        self.sent: asyncio.Task[dict[str, list[Any]]] | None = None

    async def send(self, seconds: float = 5.0) -> asyncio.Task[dict[str, list[Any]]]:
        sent = asyncio.create_task(self.broadcasts.send("clear_cache", {"cache_type": "all"}, seconds))
        for _ in range(3):
            await asyncio.sleep(0)
        return sent

    def asked(self, index: int) -> tuple[int, Any]:
        """The number and the body of the only frame that an executor got."""
        ((kind, number, body),) = self.wire(index).frames
        assert kind == ipc.BROADCAST
        return number, msgspec.json.decode(body)

    def answer(self, index: int, answer: object) -> None:
        body = encode_error_object(answer) if isinstance(answer, RpcError) else msgspec.json.encode(answer)
        self.broadcasts.answered(self.handles[index], self.asked(index)[0], body)

    def wire(self, index: int) -> Wire:
        return self._wires[self.handles[index]]


async def test_all_are_asked_and_all_have_answered() -> None:
    executors = Executors()
    sent = await executors.send()
    for index in (2, 0):
        executors.answer(index, [{"kept": index}])
    await asyncio.sleep(1)
    assert not sent.done()
    executors.answer(1, [])
    assert await sent == {"executor-0": [{"kept": 0}], "executor-1": [], "executor-2": [{"kept": 2}]}
    numbers = {executors.asked(index)[0] for index in range(3)}
    assert len(numbers) == 3, "an answer is of one of them"
    assert executors.asked(0)[1] == {"hook": "clear_cache", "params": {"cache_type": "all"}}


async def test_those_that_have_loaded_nothing_are_not_asked() -> None:
    executors = Executors()
    executors.handles[0].state = "starting"
    executors.handles[1].state = "stopping"
    executors.handles[2].catalogue = None
    sent = await executors.send()
    executors.answer(1, [])
    assert await sent == {"executor-1": []}
    assert (executors.wire(0).frames, executors.wire(2).frames) == ([], [])


async def test_where_there_is_nobody_nothing_is_waited_for() -> None:
    assert await Broadcasts([]).send("clear_cache", {}, 5.0) == {}


async def test_an_error_says_whose_it_is() -> None:
    executors = Executors()
    sent = await executors.send()
    executors.answer(0, [])
    executors.answer(1, RpcError(ErrorCode.INTERNAL_ERROR, "clear_cache failed"))
    executors.answer(2, [])
    with pytest.raises(RpcError) as caught:
        await sent
    assert (caught.value.code, caught.value.maybe_executed) == (ErrorCode.INTERNAL_ERROR, True)
    assert caught.value.message == "executor-1: clear_cache failed"


async def test_those_that_are_late_are_named_and_their_answers_are_of_no_use_any_more() -> None:
    executors = Executors()
    sent = await executors.send(2.5)
    executors.answer(1, [])
    await asyncio.sleep(3)
    with pytest.raises(RpcError) as caught:
        await sent
    assert caught.value.code == ErrorCode.COMMUNICATION_TIMEOUT
    assert caught.value.data == {"executors": ["executor-0", "executor-2"]}
    assert caught.value.maybe_executed
    assert "executor-0, executor-2 did not answer clear_cache within 2.5 s" in caught.value.message
    executors.answer(0, [])  # nobody waits


async def test_one_whose_process_has_ended_holds_nothing() -> None:
    executors = Executors()
    sent = await executors.send()
    executors.answer(0, [1])
    gone: ExecutorHandle = executors.handles[2]
    executors.broadcasts.lost(gone)
    executors.broadcasts.lost(gone)
    executors.answer(2, [3])  # it was on its way
    executors.answer(1, [2])
    assert await sent == {"executor-0": [1], "executor-1": [2], "executor-2": []}
