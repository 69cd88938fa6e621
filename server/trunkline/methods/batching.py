"""Dynamic batching: jobs of many calls run together on a thread of their own.

Work-conserving: the thread never waits while there is work, so a job that comes alone runs alone, at once; what comes
while the thread is busy is gathered. What is gathered is taken flow by flow in turn (a flow is one call) up to a
budget, so that a call of a thousand jobs holds up one of a single job by one budget at most. What is taken is split
into passes of like cost, so that little is padding.

:class:`Waiting` and :func:`passes` are pure; :class:`Batcher` is the thread around them.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

from trunkline.methods.figures import histogram
from trunkline_protocol.backlog import TURNS
from trunkline_protocol.errors import ErrorCode, RpcError

T = TypeVar("T")
R = TypeVar("R")

LEVELS: Final = {"high": 0, "normal": 1, "low": 2}
"""Priorities by name, as the positions of :data:`trunkline_protocol.backlog.TURNS`."""

BATCH_SIZES: Final = histogram(
    "trunkline_batch_size",
    "Jobs that executors ran in one pass",
    buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256),
    labels=("batch",),
)


class BatchItem(Generic[T, R]):
    """One thing to compute, for one or several waiters, all on one event loop.

    Args:
        value: what the batcher's ``run`` gets.
        cost: what it takes of a batch's budget, for example tokens; at least 1. May be set until it is put.
        deadline: on the monotonic clock, in seconds; past it the job is not begun.

    Attributes:
        future: the outcome. Wait for it with :func:`asyncio.wait`, which does not cancel it for the other waiters.
    """

    __slots__ = ("cost", "deadline", "future", "value", "waiters")

    def __init__(self, value: T, cost: int = 1, deadline: float = math.inf) -> None:
        self.value = value
        self.cost = cost
        self.deadline = deadline
        self.waiters = 1
        self.future: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        # The waiters may all be gone when it fails: then nobody fetches the error, which is no mistake.
        self.future.add_done_callback(lambda future: future.cancelled() or future.exception())

    def join(self, deadline: float) -> None:
        """Add a waiter, whose deadline counts, too."""
        self.waiters += 1
        self.deadline = max(self.deadline, deadline)

    def leave(self) -> None:
        """Remove a waiter. Without any left, the job is cancelled."""
        self.waiters -= 1
        if not self.waiters:
            self.future.cancel()


_Heap = list[tuple[int, int, BatchItem[T, R]]]


class Waiting(Generic[T, R]):
    """Jobs that wait, by priority and flow. Pure: no clock, no thread, no lock."""

    def __init__(self) -> None:
        self._levels: tuple[OrderedDict[Hashable, _Heap[T, R]], ...] = tuple(OrderedDict() for _ in LEVELS)
        self._number = itertools.count()
        self._turn = 0

    def __bool__(self) -> bool:
        return any(self._levels)

    def add(self, jobs: Iterable[BatchItem[T, R]], flow: Hashable, level: int = LEVELS["normal"]) -> None:
        """Put jobs behind those of their flow; a flow keeps the priority it began with.

        Inside a flow the most costly come first: what is taken of it at once is of like cost, then.
        """
        heap = self._levels[level].setdefault(flow, [])
        for job in jobs:
            heapq.heappush(heap, (-job.cost, next(self._number), job))
        if not heap:
            del self._levels[level][flow]

    def take(self, budget: int, now: float) -> tuple[list[BatchItem[T, R]], list[BatchItem[T, R]]]:
        """Take out the jobs that run next: their costs sum up to the budget, or one alone costs more.

        Returns:
            The jobs to run, and those whose deadline has passed. Jobs that nobody wants any more are in neither.
        """
        taken: list[BatchItem[T, R]] = []
        expired: list[BatchItem[T, R]] = []
        total = 0
        while self:
            level = self._next_level()
            flow, heap = next(iter(level.items()))
            job = heap[0][2]
            wanted = not job.future.done()
            if wanted and job.deadline > now and taken and total + job.cost > budget:
                break
            heapq.heappop(heap)
            self._turn += 1
            if not heap:
                del level[flow]
            elif wanted:
                level.move_to_end(flow)
            if wanted and job.deadline > now:
                taken.append(job)
                total += job.cost
            elif wanted:
                expired.append(job)
        return taken, expired

    def drain(self) -> list[BatchItem[T, R]]:
        """Remove and return all jobs."""
        jobs = [job for level in self._levels for heap in level.values() for _cost, _number, job in heap]
        for level in self._levels:
            level.clear()
        return jobs

    def _next_level(self) -> OrderedDict[Hashable, _Heap[T, R]]:
        """The priority that has the turn; where none of its jobs wait, the highest that has any."""
        mine = self._levels[TURNS[self._turn % len(TURNS)]]
        return mine or next(level for level in self._levels if level)


def passes(costs: Sequence[int], pass_cost: int) -> list[list[int]]:
    """Split jobs into passes of like cost; the cheap ones come first, for they hold up the others least.

    The jobs of a pass all cost what its most costly one does: the others are padded. A pass is ended where one more
    job would pad the others by more than another pass costs.

    Args:
        costs: of each job.
        pass_cost: what a pass costs beside its jobs.

    Returns:
        Indices into ``costs``.
    """
    found: list[list[int]] = []
    padded_to = 0
    for index in sorted(range(len(costs)), key=costs.__getitem__):
        cost = costs[index]
        if not found or len(found[-1]) * (cost - padded_to) > pass_cost:
            found.append([])
        found[-1].append(index)
        padded_to = cost
    return found


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """How much a batcher runs at once.

    Attributes:
        budget: of the costs of what is taken out at once: how long a newcomer waits for others, and what memory is
            needed.
        pass_cost: see :func:`passes`.
    """

    budget: int
    pass_cost: int


@dataclass(slots=True)
class _Outcomes(Generic[T, R]):
    """The outcomes of a pass, set on the loop in one go."""

    results: list[tuple[BatchItem[T, R], R]] = field(default_factory=list)
    errors: list[tuple[BatchItem[T, R], BaseException]] = field(default_factory=list)

    def settle(self) -> None:
        for job, result in self.results:
            if not job.future.done():
                job.future.set_result(result)
        for failed, error in self.errors:
            if not failed.future.done():
                failed.future.set_exception(_as_future_takes(error))


def _as_future_takes(error: BaseException) -> BaseException:
    """A StopIteration, which futures refuse, as Python itself passes it on (PEP 479); others as they are."""
    if not isinstance(error, StopIteration):
        return error
    converted = RuntimeError(f"a pass raised StopIteration: {error}")
    converted.__cause__ = error
    return converted


class Batcher(Generic[T, R]):
    """Runs jobs on a thread of its own. Belongs to the event loop it is made on.

    Args:
        name: of the thread, and the label of ``trunkline_batch_size``.
        run: computes one pass, on the thread: values to results, in the same order. A result that is an exception
            fails its job alone. Where ``run`` itself raises, each job is run again alone, so that an error reaches only
            the calls it concerns.
    """

    def __init__(self, name: str, run: Callable[[list[T]], Sequence[R | BaseException]], limits: BatchLimits) -> None:
        self._name = name
        self._run = run
        self._limits = limits
        self._loop = asyncio.get_running_loop()
        self._waiting: Waiting[T, R] = Waiting()
        self._news = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._work, daemon=True, name=name)
        self._thread.start()

    def put(self, jobs: Sequence[BatchItem[T, R]], flow: Hashable, level: int = LEVELS["normal"]) -> None:
        """Queue jobs. Any thread may call this."""
        with self._news:
            if not self._closed:
                self._waiting.add(jobs, flow, level)
                self._news.notify()
                return
        self.fail(jobs, RpcError(ErrorCode.WORKER_UNAVAILABLE, f"{self._name}: this executor is stopping"))

    def fail(self, jobs: Sequence[BatchItem[T, R]], error: BaseException) -> None:
        """End jobs with an error. Any thread may call this."""
        self._settle(_Outcomes(errors=[(job, error) for job in jobs]))

    def close(self) -> None:
        """End the thread after the pass that runs, which this waits for. Jobs that wait are cancelled."""
        with self._news:
            self._closed = True
            left = self._waiting.drain()
            self._news.notify()
        for job in left:
            job.future.cancel()
        self._thread.join()

    def _work(self) -> None:
        while True:
            with self._news:
                while not self._waiting and not self._closed:
                    self._news.wait()
                if self._closed:
                    return
                taken, expired = self._waiting.take(self._limits.budget, time.monotonic())
            if expired:
                words = f"{self._name}: the deadline passed before the computation began"
                self.fail(expired, RpcError(ErrorCode.COMMUNICATION_TIMEOUT, words))
            for indices in passes([job.cost for job in taken], self._limits.pass_cost):
                jobs = [taken[index] for index in indices if not taken[index].future.done()]
                if jobs and not self._closed:
                    self._pass(jobs)

    def _pass(self, jobs: list[BatchItem[T, R]]) -> None:
        BATCH_SIZES.observe(len(jobs), self._name)
        outcomes: _Outcomes[T, R] = _Outcomes()
        for job, result in zip(jobs, self._results(jobs), strict=True):
            if isinstance(result, BaseException):
                outcomes.errors.append((job, result))
            else:
                outcomes.results.append((job, result))
        self._settle(outcomes)

    def _results(self, jobs: list[BatchItem[T, R]]) -> Sequence[R | BaseException]:
        try:
            results = list(self._run([job.value for job in jobs]))
            if len(results) != len(jobs):
                raise ValueError(f"{self._name}: run returned {len(results)} results for {len(jobs)} values")
            return results
        except BaseException as error:  # what gets past would end the thread, and all that wait for it
            if len(jobs) == 1:
                return [error]
        return [self._results([job])[0] for job in jobs]

    def _settle(self, outcomes: _Outcomes[T, R]) -> None:
        try:
            self._loop.call_soon_threadsafe(outcomes.settle)
        except RuntimeError:  # the loop has ended, and whoever waited with it
            if not self._loop.is_closed():
                raise
