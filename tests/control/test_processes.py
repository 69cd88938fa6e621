"""What processes use, read seldom, whoever asks how often."""

from __future__ import annotations

import os

import psutil
import pytest

from trunkline.control.processes import NOTHING, SECONDS, Processes

GONE = 2**22 + 1
"""More than any process id."""


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_memory_is_known_at_once_and_the_share_of_the_cpu_from_the_second_reading_on() -> None:
    clock = Clock()
    processes = Processes(clock)
    first = processes.of(os.getpid())
    assert first.memory is not None
    assert first.memory.rss_mb == pytest.approx(psutil.Process().memory_info().rss / 2**20, rel=0.5)
    assert (first.cpu_percent, first.at) == (None, 100.0)
    clock.now += 10
    while os.times().user + os.times().system <= first.cpu_seconds:
        sum(range(1000))
    second = processes.of(os.getpid())
    assert second.cpu_percent == pytest.approx(10 * (second.cpu_seconds - first.cpu_seconds), abs=0.1)


def test_within_a_second_the_last_reading_is_told() -> None:
    clock = Clock()
    processes = Processes(clock)
    processes.read([os.getpid()])
    before = processes.of(os.getpid())
    clock.now += SECONDS
    assert processes.of(os.getpid()) is before
    clock.now += SECONDS
    assert processes.of(os.getpid()).at == clock.now, "nobody reads, and so it does"


def test_of_what_is_gone_there_is_nothing() -> None:
    processes = Processes(Clock())
    assert processes.of(None) == processes.of(GONE) == NOTHING
    processes.read([os.getpid()])
    processes.read([GONE])
    assert processes.of(GONE) == NOTHING
