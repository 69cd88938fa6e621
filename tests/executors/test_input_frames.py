"""Input on its way through a real pool to a real executor: frames, credit, slots, and every way it ends."""

from __future__ import annotations

import asyncio
import os
import signal
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st

from tests.support.groups import one_group
from tests.support.hub import MODULES
from tests.support.timing import PATIENCE, until
from trunkline.executors import ipc
from trunkline.executors.pool import ExecutorPool
from trunkline.executors.specs import ExecutorSpec
from trunkline_protocol.backlog import QueueLimits
from trunkline_protocol.calls import Call
from trunkline_protocol.errors import ErrorCode, RpcError
from trunkline_protocol.framing import FramingError
from trunkline_protocol.inputs import INPUT_WINDOW, INPUT_WINDOW_BYTES


class Feeder(Call):
    """A call that is fed by a test."""

    def __init__(self, pool: ExecutorPool, method: str, params: dict[str, Any]) -> None:
        Call.__init__(self, method, msgspec.json.encode(params))
        self.pool = pool
        self.backend = pool
        self.pushed = 0
        self.credit = 0
        self.chunks_seen: list[Any] = []
        self.outcome: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    def caller(self) -> None:
        return None

    def deliver_result(self, result: bytes) -> None:
        self.outcome.set_result(msgspec.json.decode(result))

    def deliver_error(self, error: RpcError) -> None:
        self.outcome.set_result(error)

    def deliver_chunk(self, chunk_type: bytes, data: bytes) -> None:
        self.chunks_seen.append(msgspec.json.decode(data))
        self.pool.grant(self, self.chunks + 1)

    def input_consumed(self, consumed: int) -> None:
        assert self.credit < consumed <= self.pushed
        self.credit = consumed

    def push(self, *items: Any, end: bool = False) -> None:
        for item in items:
            self.pool.push(self, self.pushed, msgspec.json.encode(item), False)
            self.pushed += 1
        if end:
            self.pool.push(self, self.pushed, b"null", True)

    async def end(self) -> Any:
        return await asyncio.wait_for(asyncio.shield(self.outcome), PATIENCE)

    async def error(self) -> RpcError:
        outcome = await self.end()
        assert isinstance(outcome, RpcError), outcome
        return outcome


class Pool:
    """A pool and how a test calls it."""

    def __init__(self, pool: ExecutorPool) -> None:
        self.pool = pool

    def call(self, method: str, **params: Any) -> Feeder:
        call = Feeder(self.pool, method, params)
        call.info = self.pool.find(method)
        self.pool.submit(call)
        return call

    @property
    def load(self) -> int:
        return self.pool.executors[0].lanes["loop"].load

    def pid(self) -> int:
        pid = self.pool.executors[0].pid
        assert pid is not None
        return pid


@asynccontextmanager
async def executors(max_concurrency: int = 2, limits: QueueLimits | None = None) -> AsyncIterator[Pool]:
    """One real executor that serves ``lab``."""
    spec = ExecutorSpec(("lab",), max_concurrency=max_concurrency, python_path=(str(MODULES),))
    pool = ExecutorPool(one_group(1, spec), lambda _: None, queue_limits=limits)
    pool.start()
    try:
        await asyncio.wait_for(pool.wait_ready(), 3 * PATIENCE)
        yield Pool(pool)
    finally:
        await pool.stop(1.0)


on_one_loop = pytest.mark.asyncio(loop_scope="module")
"""For tests of the executor that is started once."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared() -> AsyncIterator[Pool]:
    async with executors() as pool:
        yield pool


@pytest_asyncio.fixture(loop_scope="module")
async def lab(shared: Pool) -> AsyncIterator[Pool]:
    """The shared executor, which nothing of other tests keeps busy."""
    yield shared
    handle = shared.pool.executors[0]
    await until(lambda: shared.pool.ready and not handle.busy and not shared.load, "the executor is idle again")


# --- frames ---


@given(st.integers(0, 2**64 - 1), st.booleans(), st.binary())
def test_the_body_of_an_input(index: int, final: bool, data: bytes) -> None:
    assert ipc.parse_input(ipc.input_body(index, final, data)) == (index, final, data)


@pytest.mark.parametrize("size", range(9))
def test_a_body_cut_short(size: int) -> None:
    with pytest.raises(FramingError):
        ipc.parse_input(bytes(size))


def test_its_layout_is_as_documented() -> None:
    assert ipc.input_body(5, True, b"{}") == struct.pack("<QB", 5, 1) + b"{}"


# --- items and credit ---


@on_one_loop
async def test_items_reach_the_method(lab: Pool) -> None:
    call = lab.call("lab.sum", start=10)
    call.push(1, 2)
    await until(lambda: lab.load == 0, "both are taken, and it waits for more")
    call.push(3, end=True)
    assert await call.end() == 16
    assert lab.load == 0


@on_one_loop
async def test_an_answer_to_each_item(lab: Pool) -> None:
    call = lab.call("lab.echo_input")
    for number in range(5):
        call.push({"n": number})
        await until(lambda: len(call.chunks_seen) == number + 1, "the chunk came")  # noqa: B023  # at once
    call.push(end=True)
    assert await call.end() == {"chunks": 5}
    assert call.chunks_seen == [{"n": number} for number in range(5)]


@on_one_loop
@pytest.mark.parametrize("size", [1, 50_000, 2 * INPUT_WINDOW_BYTES])
async def test_whoever_keeps_to_the_credit_is_never_stuck(lab: Pool, size: int) -> None:
    count, call = 300, lab.call("lab.echo_input")
    sizes: list[int] = []

    def may_send() -> bool:
        ahead = sizes[call.credit :]
        return call.settled or (len(ahead) < INPUT_WINDOW and sum(ahead) < INPUT_WINDOW_BYTES)

    for _ in range(count):
        await until(may_send, f"there is credit for item {len(sizes)}, have {call.credit}")
        call.push("x" * size)
        sizes.append(size + 2)
    call.push(end=True)
    assert await call.end() == {"chunks": count}
    assert call.credit > count - 16


@on_one_loop
async def test_who_runs_ahead_is_stopped(lab: Pool, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    marker.write_text("")
    call = lab.call("lab.picky", marker=str(marker))
    call.push(*range(INPUT_WINDOW))
    with pytest.raises(RpcError) as caught:
        call.push("too many")
    assert caught.value.code == ErrorCode.RESOURCE_EXHAUSTED
    marker.write_text("x" * 20)
    await until(lambda: call.credit == 16, "credit for what was taken")
    call.push(*range(16))
    with pytest.raises(RpcError):
        call.push("too many")
    call.abandon()
    await until(Path(f"{marker}.ended").exists, "the method ended")


@on_one_loop
async def test_a_bad_item_ends_the_call(lab: Pool) -> None:
    call = lab.call("lab.sum")
    call.push(1, 2, "x", 4)
    error = await call.error()
    assert (error.code, error.data["index"], error.maybe_executed) == (ErrorCode.INVALID_PARAMS, 2, True)
    call.push(5)  # on its way when the call ended: nobody minds
    assert lab.load == 0


@on_one_loop
async def test_a_method_that_takes_none(lab: Pool) -> None:
    call = lab.call("lab.cleanup", marker="/dev/null")
    with pytest.raises(RpcError, match="takes no input") as caught:
        call.push(1)
    assert caught.value.code == ErrorCode.INVALID_PARAMS
    call.abandon()


@on_one_loop
async def test_input_is_activity(lab: Pool) -> None:
    call = lab.call("lab.sum")
    before = call.last_activity
    call.push(1)
    assert call.last_activity > before
    call.abandon()


# --- slots ---


@on_one_loop
async def test_waiting_for_input_frees_the_slot(lab: Pool) -> None:
    """Two slots, twenty calls that wait, and one more that runs."""
    waiting = [lab.call("lab.sum") for _ in range(20)]
    await until(lambda: lab.load == 0 and not lab.pool.waiting, "all of them run and hold no slot")
    quick = lab.call("lab.sum")
    quick.push(1, end=True)
    assert await quick.end() == 1
    for call in reversed(waiting):
        call.push(1, 2, end=True)
    assert [await call.end() for call in waiting] == [3] * 20
    assert lab.load == 0


@on_one_loop
async def test_whoever_goes_on_takes_its_slot_back(lab: Pool, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    marker.write_text("x")
    call = lab.call("lab.picky", marker=str(marker))
    await until(lambda: lab.load == 0, "it waits for its first item")
    call.push(1)
    await until(lambda: lab.load == 1, "it has it, and works")
    call.abandon()


@on_one_loop
async def test_input_waits_for_an_executor_with_its_call(lab: Pool, tmp_path: Path) -> None:
    busy = occupy(lab, tmp_path)
    call = lab.call("lab.sum")
    assert call.executor is None
    call.push(1, 2, 3, end=True)
    assert lab.pool._held.bytes == 4 * 9 + 3 + 4
    for each in busy:
        each.abandon()
    assert await call.end() == 6
    assert lab.pool._held.bytes == 0


def occupy(lab: Pool, folder: Path) -> list[Feeder]:
    """More calls than the executor is sent at once."""
    return [lab.call("lab.cleanup", marker=str(folder / str(number))) for number in range(300)]


@on_one_loop
async def test_input_of_a_call_that_was_cancelled_before_it_ran_is_forgotten(lab: Pool, tmp_path: Path) -> None:
    busy = occupy(lab, tmp_path)
    call = lab.call("lab.sum")
    call.push(1)
    assert lab.pool._held.bytes
    call.abandon()
    assert lab.pool._held.bytes == 0
    for each in busy:
        each.abandon()


async def test_what_waits_is_bounded_in_bytes_and_forgotten_when_the_pool_stops(tmp_path: Path) -> None:
    async with executors(max_concurrency=1, limits=QueueLimits(bytes=100_000)) as lab:
        busy = occupy(lab, tmp_path)
        first, second = lab.call("lab.sum"), lab.call("lab.sum")
        first.push("x" * 90_000)
        with pytest.raises(RpcError) as caught:
            second.push("x" * 20_000)
        assert (caught.value.code, caught.value.data["limit"]) == (
            ErrorCode.WORKER_OVERLOADED,
            "TRUNKLINE_QUEUE_BYTES",
        )
        await lab.pool.stop(0.2)
        assert (await first.error()).code == ErrorCode.WORKER_UNAVAILABLE
        assert lab.pool._held.bytes == 0
        for each in (first, second, *busy):
            each.abandon()


# --- ends ---


@on_one_loop
async def test_a_cancel_ends_the_wait_and_frees_everything(lab: Pool, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    marker.write_text("x" * 10)
    call = lab.call("lab.picky", marker=str(marker))
    call.push(1)
    await until(Path(f"{marker}.started").exists, "it runs")
    await until(lambda: lab.load == 0, "it waits for more")
    call.abandon()
    await until(Path(f"{marker}.ended").exists, "the method was told")
    await until(lambda: not lab.pool.executors[0].busy, "the executor said so")
    assert lab.load == 0
    assert not lab.pool.executors[0].parked


@on_one_loop
async def test_a_crash_ends_it(lab: Pool) -> None:
    call = lab.call("lab.sum")
    call.push(1)
    await until(lambda: call.executor is not None and lab.load == 0, "it runs, and waits for more")
    os.kill(lab.pid(), signal.SIGKILL)
    error = await call.error()
    assert (error.code, error.maybe_executed) == (ErrorCode.WORKER_CRASHED, True)
    call.push(2)
    await until(lambda: lab.pool.ready, "the executor is back")
    again = lab.call("lab.sum")
    again.push(2, end=True)
    assert await again.end() == 2


@on_one_loop
async def test_after_a_crash_input_that_was_taken_is_not_made_up(lab: Pool, tmp_path: Path) -> None:
    """Declared idempotent; but the items went with the process."""
    call = lab.call("lab.eats", marker=str(tmp_path / "marker"), wait_first=True)
    call.push("a")
    error = await call.error()
    assert (error.code, error.maybe_executed, call.attempts) == (ErrorCode.WORKER_CRASHED, True, 1)


@on_one_loop
async def test_after_a_crash_before_any_input_it_runs_again(lab: Pool, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    call = lab.call("lab.eats", marker=str(marker))
    await until(marker.exists, "the first run")
    await until(lambda: call.executor is None, "the hub knows of its end")
    call.push("a", "b")
    await until(lambda: lab.pool.ready, "the executor is back")
    call.push("c", end=True)
    assert await call.end() == ["a", "b", "c"]
    assert call.attempts == 2
    assert lab.pool._held.bytes == 0
