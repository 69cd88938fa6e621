"""Takes a sample of what was counted once a second, for as long as the hub runs."""

from __future__ import annotations

import asyncio
import time
from typing import Final

from trunkline.observe.history import History, Sample
from trunkline.observe.metrics import CallStats

SECONDS: Final = 1.0


class Sampler:
    """The clock of a :class:`trunkline.observe.history.History`."""

    def __init__(self, stats: CallStats) -> None:
        self._history = History(stats, time.monotonic())
        self._timer: asyncio.TimerHandle | None = None

    def lately(self, seconds: float) -> list[Sample]:
        """The samples of the last so many seconds, the oldest first."""
        return self._history.samples(seconds)

    def start(self) -> None:
        """Begin."""
        self._timer = asyncio.get_running_loop().call_later(SECONDS, self._tick)

    def stop(self) -> None:
        """No more samples."""
        if self._timer is not None:
            self._timer.cancel()

    def _tick(self) -> None:
        self.start()  # first: a sample that cannot be taken is not the last
        self._history.take(time.monotonic())
