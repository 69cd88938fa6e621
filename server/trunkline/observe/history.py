"""Recent counts: one sample a second for five minutes, and one for ten seconds each for the rest of an hour.

Bounded: whatever the number of methods, no more than :data:`MAX_RECORDS` of their counts are kept. Where there are very
many methods the past is shorter, and says so. Pure: the clock is an argument.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any, Final

from trunkline.observe.metrics import CallStats, MethodStats, total_of

FINE_SAMPLES: Final = 300
COARSE: Final = 10
"""Samples of a second that become one."""

COARSE_SAMPLES: Final = 330
MAX_RECORDS: Final = 30_000
"""Counts of one method in one sample, some 0.8 KB each."""


@dataclass(slots=True)
class Sample:
    """The counts of a stretch of time.

    Attributes:
        ended: on the caller's monotonic clock.
        seconds: how long it was.
        methods: what was counted in it; methods that were not called are not in it.
    """

    ended: float
    seconds: float
    methods: dict[str, MethodStats]

    def as_data(self, now: float) -> dict[str, Any]:
        """The sample for charts: how long ago it ended, counts, and percentiles in milliseconds."""
        total = total_of(self.methods)
        return {
            "seconds_ago": round(now - self.ended, 3),
            "seconds": round(self.seconds, 3),
            "calls": total.count,
            "errors": total.failed,
            **total.duration.milliseconds(),
            **total.wait.milliseconds("wait_"),
            **total.run.milliseconds("run_"),
        }


class History:
    """The samples of the last hour.

    Args:
        stats: the counts that are sampled.
        now: when they began.
    """

    def __init__(self, stats: CallStats, now: float) -> None:
        self._stats = stats
        self._at = now
        self._before: dict[str, MethodStats] = {}
        self._fine: deque[Sample] = deque()
        self._coarse: deque[Sample] = deque()
        self._records = 0

    def take(self, now: float) -> None:
        """End the present sample. To be called once a second."""
        methods: dict[str, MethodStats] = {}
        for name, stats in self._stats.methods.items():
            before = self._before.get(name)
            if before is None or before.ok != stats.ok or before.errors != stats.errors:
                methods[name] = stats.since(before) if before is not None else stats.copy()
                self._before[name] = stats.copy()
        self._fine.append(Sample(now, now - self._at, methods))
        self._at = now
        self._records += len(methods)
        if len(self._fine) > FINE_SAMPLES:
            self._merge()
        while len(self._coarse) > COARSE_SAMPLES or self._records > MAX_RECORDS:
            self._records -= len((self._coarse or self._fine).popleft().methods)

    def _merge(self) -> None:
        merged = merge([self._fine.popleft() for _ in range(COARSE)])
        self._coarse.append(merged)
        self._records = sum(len(sample.methods) for lane in (self._coarse, self._fine) for sample in lane)

    def samples(self, seconds: float) -> list[Sample]:
        """The samples of the last ``seconds``, whole ones only, the oldest first."""
        since = self._at - seconds - 0.5  # timers are late: the 60th sample of a minute still counts
        return [
            sample for lane in (self._coarse, self._fine) for sample in lane if sample.ended - sample.seconds >= since
        ]


def merge(samples: list[Sample]) -> Sample:
    """Neighbouring samples, one or more, as one."""
    methods: dict[str, MethodStats] = {}
    for sample in samples:
        for name, stats in sample.methods.items():
            if name in methods:
                methods[name].add(stats)
            else:
                methods[name] = stats.copy()
    return Sample(samples[-1].ended, sum(sample.seconds for sample in samples), methods)
