"""Memory and CPU share of processes, read once a second at most, whoever asks how often."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

import psutil

from trunkline_protocol.health_reports import Memory

SECONDS: Final = 1.0


class Reading(NamedTuple):
    """What a process uses: memory now, CPU time in seconds since it started, and its share of one CPU lately."""

    memory: Memory | None = None
    cpu_percent: float | None = None
    cpu_seconds: float = 0.0
    at: float = 0.0


NOTHING: Final = Reading()


class Processes:
    """The latest readings of processes. The share of the CPU is known from the second reading on.

    Args:
        clock: monotonic, in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._readings: dict[int, Reading] = {}

    def read(self, pids: Iterable[int]) -> None:
        """Read these processes, and forget all others."""
        self._readings = {pid: _read(pid, self._clock(), self._readings.get(pid, NOTHING)) for pid in pids}

    def of(self, pid: int | None) -> Reading:
        """The latest reading of a process, made now where that is old; nothing where there is no process."""
        if pid is None:
            return NOTHING
        now, reading = self._clock(), self._readings.get(pid, NOTHING)
        if now - reading.at >= 1.5 * SECONDS:  # nobody calls read
            reading = self._readings[pid] = _read(pid, now, reading)
        return reading


def _read(pid: int, now: float, before: Reading) -> Reading:
    try:
        process = psutil.Process(pid)
        with process.oneshot():
            memory, times = process.memory_info(), process.cpu_times()
            percent = process.memory_percent()
    except psutil.Error:
        return NOTHING
    used = times.user + times.system
    share = None
    if before.at and now > before.at:
        share = round(100 * max(0.0, used - before.cpu_seconds) / (now - before.at), 1)
    size = Memory(round(memory.rss / 2**20, 1), round(memory.vms / 2**20, 1), round(percent, 2))
    return Reading(size, share, used, now)
