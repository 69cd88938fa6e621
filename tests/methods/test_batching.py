"""Forming batches: pure lists first, then the thread, with gates in place of a slow model."""

from __future__ import annotations

import asyncio
import itertools
import random
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.timing import PATIENCE, eventually
from trunkline.methods.batching import LEVELS, Batcher, BatchItem, BatchLimits, Waiting, passes
from trunkline_protocol.errors import ErrorCode, RpcError

COSTS = st.lists(st.integers(1, 300), max_size=60)


# --- passes ---


@given(COSTS, st.integers(0, 100))
def test_each_job_is_in_one_pass_and_padding_costs_less_than_passes(costs: list[int], pass_cost: int) -> None:
    found = passes(costs, pass_cost)
    assert sorted(index for part in found for index in part) == list(range(len(costs)))
    for part in found:
        inside = sorted(costs[index] for index in part)
        for count, (low, high) in enumerate(itertools.pairwise(inside), 1):
            assert count * (high - low) <= pass_cost
    ends = [costs[part[-1]] for part in found]
    assert ends == sorted(ends), "the cheap ones come first"


def test_a_short_job_is_not_padded_to_long_ones() -> None:
    assert passes([256, 8, 250, 9], pass_cost=16) == [[1, 3], [2, 0]]


def test_where_padding_is_free_everything_is_one_pass() -> None:
    assert passes([256, 8, 250], pass_cost=100_000) == [[1, 2, 0]]


# --- whose turn it is ---


def jobs(*costs: int, deadline: float = float("inf")) -> list[BatchItem[int, int]]:
    return [BatchItem(cost, cost, deadline) for cost in costs]


def values(taken: list[BatchItem[int, int]]) -> list[int]:
    return [job.value for job in taken]


async def test_flows_take_turns_so_that_a_large_call_does_not_hold_up_a_small_one() -> None:
    waiting: Waiting[int, int] = Waiting()
    waiting.add(jobs(*[100] * 1000), "large")
    waiting.add(jobs(7), "small")
    taken, _ = waiting.take(300, 0.0)
    assert values(taken) == [100, 7, 100]
    waiting.add(jobs(8), "newcomer")
    assert 8 in values(waiting.take(300, 0.0)[0])


async def test_inside_a_flow_jobs_of_like_cost_come_together() -> None:
    waiting: Waiting[int, int] = Waiting()
    waiting.add(jobs(5, 90, 6, 95), "call")
    assert values(waiting.take(185, 0.0)[0]) == [95, 90]
    assert values(waiting.take(185, 0.0)[0]) == [6, 5]
    assert not waiting


async def test_a_job_beyond_the_budget_runs_alone() -> None:
    waiting: Waiting[int, int] = Waiting()
    waiting.add(jobs(1000), "a")
    waiting.add(jobs(10), "b")
    assert [values(waiting.take(100, 0.0)[0]) for _ in range(2)] == [[1000], [10]]


async def test_a_higher_priority_goes_first_and_starves_nobody() -> None:
    waiting: Waiting[int, int] = Waiting()
    for number in range(8):
        waiting.add(jobs(1), f"low {number}", LEVELS["low"])
        waiting.add(jobs(2), f"normal {number}", LEVELS["normal"])
        waiting.add(jobs(3), f"high {number}", LEVELS["high"])
    order = [values(waiting.take(1, 0.0)[0])[0] for _ in range(8)]
    assert (order[0], order.count(3), order.count(2), order.count(1)) == (3, 5, 2, 1)


async def test_what_nobody_wants_or_comes_too_late_is_dropped_when_the_batch_is_formed() -> None:
    waiting: Waiting[int, int] = Waiting()
    first, gone, late = *jobs(1, 2), *jobs(3, deadline=5.0)
    waiting.add([first, gone, late], "call")
    gone.leave()
    taken, expired = waiting.take(100, now=6.0)
    assert (taken, expired) == ([first], [late])
    assert not waiting


async def test_dropped_jobs_do_not_use_up_the_budget() -> None:
    waiting: Waiting[int, int] = Waiting()
    gone = jobs(*[90] * 5)
    waiting.add(gone, "gone")
    for job in gone:
        job.leave()
    waiting.add(jobs(60, 40), "here")
    assert values(waiting.take(100, 0.0)[0]) == [60, 40]


@pytest.mark.parametrize("seed", range(5))
async def test_nothing_is_lost_or_doubled_and_each_batch_keeps_to_its_budget(seed: int) -> None:
    dice = random.Random(seed)
    waiting: Waiting[int, int] = Waiting()
    put: list[BatchItem[int, int]] = []
    got: list[BatchItem[int, int]] = []
    for _ in range(200):
        new = jobs(*(dice.randint(1, 50) for _ in range(dice.randint(0, 6))))
        waiting.add(new, dice.randint(0, 4), dice.randint(0, 2))
        put += new
        taken, _ = waiting.take(100, 0.0)
        assert len(taken) == 1 or sum(job.cost for job in taken) <= 100
        got += taken
    while waiting:
        got += waiting.take(100, 0.0)[0]
    assert len(got) == len(put)
    assert set(got) == set(put)


async def test_a_job_with_two_waiters_is_dropped_when_both_have_left() -> None:
    (job,) = jobs(1)
    job.join(float("inf"))
    job.leave()
    assert not job.future.done()
    job.leave()
    assert job.future.cancelled()


# --- the thread ---


class Gate:
    """A model that computes when it is told to: records each pass, then waits."""

    def __init__(self) -> None:
        self.runs: list[list[int]] = []
        self.open = threading.Event()

    def __call__(self, given: list[int]) -> list[int | BaseException]:
        self.runs.append(given)
        assert self.open.wait(PATIENCE)
        return [10 * value for value in given]


@asynccontextmanager
async def batcher(run: Callable[[list[int]], Any], budget: int = 100, pass_cost: int = 1000) -> AsyncIterator[Any]:
    made: Batcher[int, int] = Batcher("test", run, BatchLimits(budget, pass_cost))
    try:
        yield made
    finally:
        if isinstance(run, Gate):
            run.open.set()
        made.close()


async def outcome(job: BatchItem[int, int]) -> int:
    await asyncio.wait([job.future], timeout=PATIENCE)
    return job.future.result()


async def until(condition: Callable[[], object], what: str) -> None:
    await asyncio.to_thread(eventually, condition, what)


async def test_a_job_that_comes_alone_runs_at_once_and_what_comes_meanwhile_is_gathered() -> None:
    gate = Gate()
    async with batcher(gate) as made:
        first, *others = jobs(1, 2, 3, 4)
        made.put([first], "a")
        await until(lambda: gate.runs == [[1]], "the first runs alone")
        for job in others:
            made.put([job], object())
        gate.open.set()
        assert [await outcome(job) for job in (first, *others)] == [10, 20, 30, 40]
        assert gate.runs == [[1], [2, 3, 4]]


async def test_a_job_that_is_left_while_it_waits_is_not_run() -> None:
    gate = Gate()
    async with batcher(gate) as made:
        first, left, kept = jobs(1, 2, 3)
        made.put([first], "a")
        await until(lambda: gate.runs, "the first runs")
        made.put([left], "b")
        made.put([kept], "c")
        left.leave()
        gate.open.set()
        assert await outcome(kept) == 30
        assert gate.runs == [[1], [3]]


async def test_a_job_whose_deadline_passes_while_it_waits_is_not_run() -> None:
    gate = Gate()
    async with batcher(gate) as made:
        (first,) = jobs(1)
        (late,) = jobs(2, deadline=time.monotonic() - 1)
        made.put([first], "a")
        await until(lambda: gate.runs, "the first runs")
        made.put([late], "b")
        gate.open.set()
        with pytest.raises(RpcError, match="deadline passed before") as caught:
            await outcome(late)
        assert caught.value.code == ErrorCode.COMMUNICATION_TIMEOUT
        assert gate.runs == [[1]]


async def test_an_error_reaches_only_the_calls_it_concerns() -> None:
    def run(given: list[int]) -> list[int | BaseException]:
        if 13 in given:
            raise ValueError("thirteen")
        return [ValueError("seven") if value == 7 else value for value in given]

    gate = threading.Event()
    async with batcher(lambda given: (gate.wait(PATIENCE), run(given))[1]) as made:
        made.put(jobs(1), "first")  # the others are one pass, behind it
        all_jobs = jobs(2, 13, 7, 5)
        for job in all_jobs:
            made.put([job], object())
        gate.set()
        found: list[object] = []
        for job in all_jobs:
            try:
                found.append(await outcome(job))
            except ValueError as error:
                found.append(str(error))
        assert found == [2, "thirteen", "seven", 5]


async def test_closing_ends_what_waits() -> None:
    gate = Gate()
    async with batcher(gate) as made:
        first, waits = jobs(1, 2)
        made.put([first], "a")
        await until(lambda: gate.runs, "the first runs")
        made.put([waits], "b")
        gate.open.set()
        made.close()
        (late,) = jobs(3)
        made.put([late], "c")
        with pytest.raises(RpcError, match="stopping"):
            await outcome(late)
        assert waits.future.done()


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    yield
    assert "test" not in {thread.name for thread in threading.enumerate()}


# --- what a pass raises ---


class Odd(BaseException):
    """Of the kind that `except Exception` does not catch."""


@pytest.mark.parametrize("error", [StopIteration(), Odd("x"), SystemExit(2), KeyboardInterrupt(), GeneratorExit()])
async def test_whatever_a_pass_raises_ends_its_jobs_and_the_thread_goes_on(error: BaseException) -> None:
    def run(values: list[int]) -> list[int]:
        if 0 in values:
            raise error
        return values

    batcher: Batcher[int, int] = Batcher("odd", run, BatchLimits(100, 1))
    try:
        bad, good = jobs(1, 1)
        bad.value = 0
        batcher.put([bad], "bad")
        await asyncio.wait([bad.future], timeout=PATIENCE)
        assert bad.future.done(), "its caller waits for ever"
        assert type(error).__name__ in repr(bad.future.exception())
        batcher.put([good], "good")
        assert await asyncio.wait_for(good.future, PATIENCE) == 1
    finally:
        batcher.close()


@pytest.mark.parametrize("results", [[], [1, 2, 3], None])
async def test_a_pass_that_returns_too_few_or_too_many_fails_by_name(results: Any) -> None:
    batcher: Batcher[int, int] = Batcher("counts", lambda _values: results, BatchLimits(100, 1))
    try:
        (job,) = jobs(1)
        batcher.put([job], "one")
        await asyncio.wait([job.future], timeout=PATIENCE)
        assert job.future.done(), "its caller waits for ever"
        assert "results for 1 values" in repr(job.future.exception()) or results is None
        assert batcher._thread.is_alive()
    finally:
        batcher.close()
