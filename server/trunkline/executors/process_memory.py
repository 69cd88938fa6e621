"""Memory that processes use now, as the kernel counts it; never the most that they have ever had."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Final

import psutil

PAGE: Final = os.sysconf("SC_PAGE_SIZE")

CHILDREN_ARE_LISTED: Final = Path(f"/proc/self/task/{os.getpid()}/children").exists()
"""Whether the kernel tells a thread's children. psutil looks through all processes of the machine instead."""


def memory_of(pid: int, limit: int) -> tuple[int, int]:
    """The bytes that a process and its descendants use now, and how many descendants it has.

    Beyond the limit, memory that several of them share counts once, as with a pool that was forked; up to it their
    sizes are added, which is quicker and never too little. 0 where the process has ended.
    """
    children = descendants(pid)
    used = sum(map(rss_of, (pid, *children)))
    if children and used > limit:
        used = sum(map(_share_of, (pid, *children)))
    return used, len(children)


def rss_of(pid: int) -> int:
    """The resident bytes of a process now; 0 where it has ended."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        return int(Path(f"/proc/{pid}/statm").read_bytes().split()[1]) * PAGE
    with contextlib.suppress(psutil.Error):
        return int(psutil.Process(pid).memory_info().rss)
    return 0


def descendants(pid: int) -> list[int]:
    """The processes that a process has started, and those that these have; none where it has ended."""
    if not CHILDREN_ARE_LISTED:
        with contextlib.suppress(psutil.Error):
            return [child.pid for child in psutil.Process(pid).children(recursive=True)]
        return []
    found: list[int] = []
    waiting = [pid]
    while waiting:
        children = _children(waiting.pop())
        found += children
        waiting += children
    return found


def _children(pid: int) -> list[int]:
    found: list[int] = []
    with contextlib.suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            with contextlib.suppress(OSError):  # that thread has ended
                found += map(int, Path(f"/proc/{pid}/task/{thread}/children").read_bytes().split())
    return found


def _share_of(pid: int) -> int:
    """The bytes that a process uses, of shared memory its share; what is resident where the kernel does not tell."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_bytes().splitlines():
            if line.startswith(b"Pss:"):
                return int(line.split()[1]) * 1024
    return rss_of(pid)
