"""Which zombies are reaped, and when: those of others only, and not before whoever started them had time."""

from __future__ import annotations

import os

import pytest

from trunkline.executors import orphans
from trunkline.executors.orphans import PATIENCE, Orphans


class Zombies:
    """Zombies that the test makes, and which of them were reaped."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, adopts: bool = True) -> None:
        self.now: set[int] = set()
        self.reaped: list[int] = []
        monkeypatch.setattr(orphans, "adopts", lambda: adopts)
        monkeypatch.setattr(orphans, "_zombies", lambda: set(self.now))
        monkeypatch.setattr(os, "waitpid", self._reap)
        self.orphans = Orphans()

    def _reap(self, pid: int, _options: int) -> None:
        self.reaped.append(pid)
        if pid == 9:
            raise ChildProcessError
        self.now.discard(pid)


def test_a_zombie_is_left_for_a_while_to_whoever_waits_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    zombies = Zombies(monkeypatch)
    zombies.now = {7, 8}
    zombies.orphans.reap(100.0, [8, None])
    zombies.orphans.reap(100.0 + PATIENCE - 0.1, [8, None])
    assert zombies.reaped == []
    zombies.orphans.reap(100.0 + PATIENCE, [8, None])
    assert zombies.reaped == [7], "executors are the supervisors' own"


def test_one_that_was_waited_for_meanwhile_begins_anew_under_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    zombies = Zombies(monkeypatch)
    for second, there in ((0.0, {7}), (3.0, set[int]()), (4.0, {7}), (PATIENCE + 1, {7})):
        zombies.now = there
        zombies.orphans.reap(second, [])
    assert zombies.reaped == []


def test_one_that_somebody_reaps_at_the_same_moment_is_no_trouble(monkeypatch: pytest.MonkeyPatch) -> None:
    zombies = Zombies(monkeypatch)
    zombies.now = {7, 9}
    zombies.orphans.reap(0.0, [])
    zombies.orphans.reap(PATIENCE, [])
    assert sorted(zombies.reaped) == [7, 9]


def test_who_adopts_nobody_looks_at_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    zombies = Zombies(monkeypatch, adopts=False)
    zombies.now = {7}
    zombies.orphans.reap(0.0, [])
    zombies.orphans.reap(2 * PATIENCE, [])
    assert zombies.reaped == []


def test_a_process_without_children_has_no_zombies() -> None:
    assert orphans._zombies() == set()
