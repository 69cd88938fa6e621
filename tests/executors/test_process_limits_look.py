"""Which executors are replaced or killed for their size or their age, by what is seen of them."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import pytest

from trunkline.executors.crew import Crew
from trunkline.executors.process_limits import JITTER, PAUSE_SECONDS, ProcessLimits
from trunkline.executors.specs import ExecutorSpec, GroupSpec
from trunkline_protocol.errors import ErrorCode, RpcError

pytestmark = pytest.mark.virtual_time

TINY, HUGE = 1 << 20, 1 << 50
"""Less, and more, than this process uses, which stands for the executors'."""


class Watched:
    """Executors of one group, none of which was started, and what their limits have done."""

    def __init__(self, size: int = 1, refusal: RpcError | None = None, in_process: bool = False, **limits: Any) -> None:
        groups = [GroupSpec("work", ExecutorSpec((), in_process=in_process), size, **limits)]
        self.crew = Crew(groups, ({}, lambda _: None), lambda *_: None)
        self.replaced: list[str] = []
        self.may_end = asyncio.Event()
        self._refusal = refusal
        self.limits = ProcessLimits(self.crew, groups, self._replace)
        for handle in self.crew.executors:
            handle.state, handle.pid = "ready", os.getpid()

    async def _replace(self, name: str) -> None:
        self.replaced.append(name)
        await self.may_end.wait()
        if self._refusal is not None:
            raise self._refusal

    async def look(self, seconds: float) -> list[str]:
        """Look after so many seconds; returns whom replacing has begun."""
        await asyncio.sleep(seconds)
        self.replaced.clear()
        self.limits.look(asyncio.get_running_loop().time())
        await asyncio.sleep(0.001)
        return list(self.replaced)

    def finished(self, calls: int) -> None:
        self.crew.executors[0].tallies["m"].count += calls


async def test_one_that_is_too_large_is_replaced_once_at_a_time_and_once_a_minute() -> None:
    watched = Watched(memory_soft=TINY)
    assert await watched.look(0) == ["work-0"]
    assert await watched.look(1) == [], "it is being replaced"
    watched.may_end.set()
    assert await watched.look(PAUSE_SECONDS / 2) == []
    assert await watched.look(PAUSE_SECONDS) == ["work-0"]
    assert watched.crew.executors[0].restart_causes["memory_soft"] == 2
    assert watched.crew.executors[0].exhausted is None


async def test_one_within_its_limits_is_left_alone() -> None:
    watched = Watched(memory_soft=HUGE, memory_hard=HUGE, max_requests=10)
    watched.finished(5)
    assert await watched.look(0) == []
    assert watched.crew.executors[0].exhausted is None


async def test_one_that_is_far_too_large_is_killed_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    watched = Watched(memory_soft=TINY // 2, memory_hard=TINY)
    (handle,) = watched.crew.executors
    killed: list[str] = []
    monkeypatch.setattr(watched.crew, "kill", lambda _handle, reason: killed.append(reason))
    assert await watched.look(0) == []
    assert killed == [handle.exhausted]
    assert handle.exhausted is not None
    assert handle.exhausted.startswith("it used ")
    assert handle.exhausted.endswith("more than groups.work.memory_hard")


async def test_one_that_has_ended_or_starts_has_no_size() -> None:
    watched = Watched(size=2, memory_hard=TINY)
    first, second = watched.crew.executors
    first.pid, second.state = None, "starting"
    await watched.look(0)
    assert (first.exhausted, second.exhausted) == (None, None)


async def test_after_its_share_of_calls_it_is_replaced_and_the_next_process_has_a_share_of_its_own() -> None:
    watched = Watched(max_requests=100)
    watched.may_end.set()
    assert await watched.look(0) == []
    watched.finished(round(100 * (1 - JITTER)) - 1)
    assert await watched.look(1) == [], "the earliest there is"
    watched.finished(21)
    assert await watched.look(1) == ["work-0"]
    assert watched.crew.executors[0].restart_causes["max_requests"] == 1
    watched.crew.executors[0].pid = os.getppid()
    assert await watched.look(1) == []
    watched.finished(100)
    assert await watched.look(1) == ["work-0"]


async def test_a_replacement_that_fails_is_tried_again_after_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    watched = Watched(max_requests=1, refusal=RpcError(ErrorCode.WORKER_UNAVAILABLE, "no room"))
    watched.may_end.set()
    await watched.look(0)
    watched.finished(1)
    assert await watched.look(1) == ["work-0"]
    assert "work-0 was not replaced: no room" in caplog.text
    assert await watched.look(PAUSE_SECONDS / 2) == []
    assert await watched.look(PAUSE_SECONDS) == ["work-0"]
    assert watched.crew.executors[0].restart_causes["max_requests"] == 0


async def test_it_looks_by_itself_where_there_is_a_limit_and_a_process() -> None:
    watched, free = Watched(memory_soft=TINY), Watched()
    inside = Watched(in_process=True, memory_soft=TINY)  # its size is the hub's, and no other process would be smaller
    for each in (watched, free, inside):
        each.limits.start()
    await asyncio.sleep(10)
    assert (watched.replaced, free.replaced, inside.replaced) == (["work-0"], [], [])
    for each in (watched, free, inside):
        each.limits.stop()
        each.may_end.set()
    watched.replaced.clear()
    await asyncio.sleep(2 * PAUSE_SECONDS)
    assert watched.replaced == []
