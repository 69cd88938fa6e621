"""Reaps orphans: what executors had started, and left behind, has the hub as its parent where that is process 1."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from collections.abc import Collection
from typing import Final

import psutil

PR_GET_CHILD_SUBREAPER: Final = 37
PATIENCE: Final = 5.0
"""Seconds that a zombie is left to whoever may have started it in this process."""


def adopts() -> bool:
    """Whether orphans become children of this process: in a container it may be process 1 (Linux)."""
    if sys.platform != "linux":
        return False
    flag = ctypes.c_int()
    ctypes.CDLL(None).prctl(PR_GET_CHILD_SUBREAPER, ctypes.byref(flag))
    return os.getpid() == 1 or bool(flag.value)


class Orphans:
    """The zombies among this process's children that are not its executors. The clock is an argument."""

    def __init__(self) -> None:
        self._adopts = adopts()
        self._seen: dict[int, float] = {}

    def reap(self, now: float, own: Collection[int | None]) -> None:
        """Reap those that have been zombies for a while.

        Args:
            now: monotonic, in seconds.
            own: processes that others wait for.
        """
        if self._adopts:
            zombies = {pid for pid in _zombies() if pid not in own}
            self._seen = {pid: self._seen.get(pid, now) for pid in zombies}
            for pid in [pid for pid, since in self._seen.items() if now - since >= PATIENCE]:
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(pid, os.WNOHANG)


def _zombies() -> set[int]:
    """The children that have ended; only where one has are all looked at."""
    try:
        if os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            return set()
    except ChildProcessError:
        return set()
    found = set[int]()
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.Error):
            if child.status() == psutil.STATUS_ZOMBIE:
                found.add(child.pid)
    return found
