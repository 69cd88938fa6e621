"""What processes use: with those that they have started, and what these share."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.support.timing import START, eventually
from trunkline.executors import process_memory
from trunkline.executors.process_memory import descendants, memory_of, rss_of

MIB = 2**20

FORKS = """
import os, sys, time
kept = b"x" * (64 << 20)
for _ in range(int(sys.argv[1])):
    if not os.fork():
        if len(sys.argv) > 2 and not os.fork():
            time.sleep(600)
        time.sleep(600)
print("ready", flush=True)
time.sleep(600)
"""


@contextmanager
def family(*arguments: str) -> Iterator[int]:
    """A process of its own group, with what it has forked."""
    with subprocess.Popen(
        [sys.executable, "-c", FORKS, *arguments], stdout=subprocess.PIPE, start_new_session=True
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            yield process.pid
        finally:
            os.killpg(process.pid, 9)


def test_a_process_alone_is_as_large_as_what_it_has_resident() -> None:
    with family("0") as pid:
        used, children = memory_of(pid, MIB)
        assert children == 0
        assert used == pytest.approx(rss_of(pid), abs=MIB)
        assert 64 * MIB < used < 128 * MIB


def test_what_forks_share_counts_once_where_it_matters() -> None:
    with family("3") as pid:
        eventually(lambda: len(descendants(pid)) == 3, "it has forked", START)
        used, children = memory_of(pid, 128 * MIB)
        assert children == 3
        assert 64 * MIB < used < 128 * MIB
        assert memory_of(pid, 1024 * MIB)[0] > 200 * MIB, "where that is enough, sizes are added"


@pytest.mark.parametrize("is_listed", [True, False])
def test_the_children_of_children(monkeypatch: pytest.MonkeyPatch, is_listed: bool) -> None:
    if is_listed and not process_memory.CHILDREN_ARE_LISTED:
        pytest.skip("this kernel does not list them")
    monkeypatch.setattr(process_memory, "CHILDREN_ARE_LISTED", is_listed)
    with family("2", "again") as pid:
        eventually(lambda: len(descendants(pid)) == 4, "they have forked", START)


@pytest.mark.parametrize("is_listed", [True, False])
def test_no_process_has_none(monkeypatch: pytest.MonkeyPatch, is_listed: bool) -> None:
    monkeypatch.setattr(process_memory, "CHILDREN_ARE_LISTED", is_listed)
    assert memory_of(2**22 + 1, MIB) == (0, 0)
