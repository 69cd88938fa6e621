"""Recent counts: a sample a second for five minutes, one for ten seconds each for an hour, then minutes for a day, and
ten minutes for a week.

Bounded: whatever the number of methods, no more than :data:`MAX_RECORDS` of their counts are kept. Where there are very
many methods the past is shorter, and says so. Pure: the clock is an argument.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from trunkline.observe.metrics import CallStats, MethodStats, total_of
from trunkline_protocol.reports import MetricsSample

FINE_SAMPLES: Final = 300
COARSE: Final = 10
"""Samples of a second that become one."""

COARSE_SAMPLES: Final = 330
LANES: Final = ((1, FINE_SAMPLES), (COARSE, COARSE_SAMPLES), (6, 1_440), (10, 1_008))
"""Of each lane: how many samples of the one before become one of it, and how many it has at most."""

MAX_RECORDS: Final = 30_000
"""Counts of one method in one sample, some 0.8 KB each."""

WORKERS_A_RECORD: Final = 8
"""Counts of workers are so many times smaller."""


@dataclass(frozen=True, slots=True)
class WorkerTotals:
    """The calls that one executor has finished: how many, how many of them failed, and the seconds that they ran."""

    count: int = 0
    failed: int = 0
    seconds: float = 0.0

    def plus(self, other: WorkerTotals) -> WorkerTotals:
        """The sum of both."""
        return WorkerTotals(self.count + other.count, self.failed + other.failed, self.seconds + other.seconds)

    def since(self, before: WorkerTotals) -> WorkerTotals:
        """What was added after an earlier state."""
        return WorkerTotals(self.count - before.count, self.failed - before.failed, self.seconds - before.seconds)


@dataclass(slots=True)
class Sample:
    """The counts of a stretch of time.

    Attributes:
        ended: on the caller's monotonic clock.
        seconds: how long it was.
        methods: what was counted in it; methods that were not called are not in it.
        workers: the same by executor.
    """

    ended: float
    seconds: float
    methods: dict[str, MethodStats]
    workers: dict[str, WorkerTotals] = field(default_factory=dict)

    @property
    def records(self) -> float:
        """What it takes, in records."""
        return len(self.methods) + len(self.workers) / WORKERS_A_RECORD

    def report(self, now: float) -> MetricsSample:
        """The sample for charts: how long ago it ended, counts, and percentiles in milliseconds."""
        total = total_of(self.methods)
        return MetricsSample(
            seconds_ago=round(now - self.ended, 3),
            seconds=round(self.seconds, 3),
            calls=total.count,
            errors=total.failed,
            **total.duration.milliseconds(),
            **total.wait.milliseconds("wait_"),
            **total.run.milliseconds("run_"),
        )


class History:
    """The samples of the last week.

    Args:
        stats: the counts that are sampled.
        now: when they began.
        lanes: see :data:`LANES`.
    """

    def __init__(self, stats: CallStats, now: float, lanes: Sequence[tuple[int, int]] = LANES) -> None:
        self._stats = stats
        self._at = now
        self._before: dict[str, MethodStats] = {}
        self._workers: Mapping[str, WorkerTotals] = {}
        self._rules = lanes
        self._lanes: list[deque[Sample]] = [deque() for _ in lanes]
        self._records = 0.0

    def take(self, now: float, workers: Mapping[str, WorkerTotals] | None = None) -> Sample:
        """End the present sample, and return it. To be called once a second.

        Args:
            workers: the totals of each executor, since the start.
        """
        methods: dict[str, MethodStats] = {}
        if len(self._before) > len(self._stats.methods):
            for gone in self._before.keys() - self._stats.methods.keys():  # those of a tenant that was deleted
                del self._before[gone]
        for name, stats in self._stats.methods.items():
            before = self._before.get(name)
            if before is not None and before.count > stats.count:  # deleted, and made again since
                before = None
            if before is None or before.ok != stats.ok or before.errors != stats.errors:
                methods[name] = stats.since(before) if before is not None else stats.copy()
                self._before[name] = stats.copy()
        sample = Sample(now, now - self._at, methods, self._worked(workers or {}))
        self._lanes[0].append(sample)
        self._at = now
        self._records += sample.records
        self._merge()
        while len(self._lanes[-1]) > self._rules[-1][1] or self._records > MAX_RECORDS:
            oldest = next(lane for lane in reversed(self._lanes) if lane)
            self._records -= oldest.popleft().records
        return sample

    def _worked(self, workers: Mapping[str, WorkerTotals]) -> dict[str, WorkerTotals]:
        before, self._workers = self._workers, workers
        later = {name: totals.since(before.get(name, WorkerTotals())) for name, totals in workers.items()}
        return {name: totals for name, totals in later.items() if totals.count}

    def _merge(self) -> None:
        """Make one sample of the oldest of each lane that has too many."""
        for place, (lane, following) in enumerate(zip(self._lanes, self._lanes[1:], strict=False)):
            if len(lane) > self._rules[place][1]:
                group = [lane.popleft() for _ in range(self._rules[place + 1][0])]
                following.append(merge(group))
                self._records += following[-1].records - sum(sample.records for sample in group)

    def samples(self, seconds: float) -> list[Sample]:
        """The samples of the last ``seconds``, whole ones only, the oldest first."""
        since = self._at - seconds - 0.5  # timers are late: the 60th sample of a minute still counts
        return [sample for lane in reversed(self._lanes) for sample in lane if sample.ended - sample.seconds >= since]


def merge(samples: list[Sample]) -> Sample:
    """Neighbouring samples, one or more, as one."""
    methods: dict[str, MethodStats] = {}
    workers: dict[str, WorkerTotals] = {}
    for sample in samples:
        for name, stats in sample.methods.items():
            if name in methods:
                methods[name].add(stats)
            else:
                methods[name] = stats.copy()
        for name, totals in sample.workers.items():
            workers[name] = totals.plus(workers.get(name, WorkerTotals()))
    return Sample(samples[-1].ended, sum(sample.seconds for sample in samples), methods, workers)
