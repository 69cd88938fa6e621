"""Results that are kept, and results on their way."""

from __future__ import annotations

import asyncio

import pytest

from trunkline.methods.batching import BatchItem
from trunkline.methods.caching import JobCache
from trunkline.methods.figures import FIGURES


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def cache(max_bytes: int = 100, seconds: float = 60.0, clock: Clock | None = None) -> JobCache[str, str, bytes]:
    return JobCache("test", len, max_bytes, seconds, clock or Clock())


async def compute(kept: JobCache[str, str, bytes], key: str, result: bytes) -> None:
    job, is_new = kept.get(key, key)
    assert is_new
    assert isinstance(job, BatchItem)
    job.future.set_result(result)
    await asyncio.sleep(0)


def is_kept(kept: JobCache[str, str, bytes], key: str) -> bool:
    found, is_new = kept.get(key, key)
    if is_new:
        assert isinstance(found, BatchItem)
        found.leave()
    return not is_new


async def test_a_result_is_kept_until_its_time_is_over() -> None:
    clock = Clock()
    kept = cache(clock=clock)
    await compute(kept, "a", b"result")
    assert kept.get("a", "a") == (b"result", False)
    clock.now += 61
    assert not is_kept(kept, "a")


async def test_the_least_recently_used_gives_way_and_the_bytes_stay_bounded() -> None:
    kept = cache(max_bytes=100)
    await compute(kept, "a", b"x" * 40)
    await compute(kept, "b", b"x" * 40)
    assert is_kept(kept, "a")
    await compute(kept, "c", b"x" * 40)
    assert [is_kept(kept, key) for key in "abc"] == [True, False, True]
    assert kept.bytes == 80


async def test_what_is_larger_than_all_of_it_is_not_kept() -> None:
    kept = cache(max_bytes=10)
    await compute(kept, "a", b"x" * 11)
    assert (is_kept(kept, "a"), kept.bytes) == (False, 0)


async def test_nothing_is_kept_in_no_bytes_and_jobs_are_still_joined() -> None:
    kept = cache(max_bytes=0)
    job, is_new = kept.get("a", "a")
    assert is_new
    assert kept.get("a", "a") == (job, False)


async def test_who_asks_for_what_is_on_its_way_joins_and_may_leave_again() -> None:
    kept = cache()
    job, is_new = kept.get("a", "a", deadline=1.0)
    joined, is_second = kept.get("a", "other", deadline=2.0)
    assert isinstance(job, BatchItem)
    assert (joined is job, is_new, is_second, job.deadline, job.value) == (True, True, False, 2.0, "a")
    job.leave()
    assert not job.future.done(), "the other one still waits"
    job.future.set_result(b"r")
    await asyncio.sleep(0)
    assert kept.get("a", "a") == (b"r", False)


async def test_a_job_that_all_have_left_is_begun_anew_by_the_next_who_asks() -> None:
    kept = cache()
    job, _ = kept.get("a", "a")
    assert isinstance(job, BatchItem)
    job.leave()
    again, is_new = kept.get("a", "a")
    assert (again is not job, is_new) == (True, True)
    await asyncio.sleep(0)  # the first one's end must not remove the second
    assert kept.get("a", "a") == (again, False)


async def test_a_failure_is_not_kept() -> None:
    kept = cache()
    job, _ = kept.get("a", "a")
    assert isinstance(job, BatchItem)
    job.future.set_exception(ValueError("no"))
    await asyncio.sleep(0)
    assert not is_kept(kept, "a")


async def test_clearing_forgets_what_is_kept() -> None:
    kept = cache()
    await compute(kept, "a", b"r")
    kept.clear()
    assert (is_kept(kept, "a"), kept.bytes) == (False, 0)


async def test_look_ups_are_counted_by_outcome() -> None:
    def counted() -> dict[str, float]:
        figure = next(each for each in FIGURES.snapshot() if each.name == "trunkline_cache_requests")
        return {labels[1]: numbers[0] for labels, numbers in figure.series if labels[0] == "counted"}

    kept: JobCache[str, str, bytes] = JobCache("counted", len, 100, 60.0)
    job, _ = kept.get("a", "a")
    kept.get("a", "a")
    assert isinstance(job, BatchItem)
    job.future.set_result(b"r")
    await asyncio.sleep(0)
    kept.get("a", "a")
    assert counted() == pytest.approx({"miss": 1, "joined": 1, "hit": 1})
