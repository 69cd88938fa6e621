"""Takes a sample of the call counts once a second, as long as the hub runs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Final

from trunkline.hub.breaker import FAILURES
from trunkline.observe.history import History, Sample, WorkerTotals
from trunkline.observe.metrics import CallStats

SECONDS: Final = 1.0


def failed_calls(sample: Sample) -> dict[str, tuple[int, int]]:
    """Of each method, the calls that ended in a sample, and how many of them failed as breakers count."""
    return {
        name: (stats.count, sum(number for code, number in stats.errors.items() if code in FAILURES))
        for name, stats in sample.methods.items()
    }


class Sampler:
    """Takes the samples of a :class:`trunkline.observe.history.History` by a timer.

    Args:
        workers: returns the totals of each executor.
        on_sample: called with each sample.
    """

    def __init__(
        self,
        stats: CallStats,
        workers: Callable[[], Mapping[str, WorkerTotals]] = dict,
        on_sample: Callable[[Sample], None] = lambda _sample: None,
    ) -> None:
        self._workers = workers
        self._on_sample = on_sample
        self._history = History(stats, time.monotonic())
        self._timer: asyncio.TimerHandle | None = None

    def lately(self, seconds: float) -> list[Sample]:
        """The samples of the last so many seconds, the oldest first."""
        return self._history.samples(seconds)

    def start(self) -> None:
        """Start the timer."""
        self._timer = asyncio.get_running_loop().call_later(SECONDS, self._tick)

    def stop(self) -> None:
        """Stop the timer."""
        if self._timer is not None:
            self._timer.cancel()

    def _tick(self) -> None:
        self.start()  # first, so that the timer goes on where a sample fails
        self._on_sample(self._history.take(time.monotonic(), self._workers()))
