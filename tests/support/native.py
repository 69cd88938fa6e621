"""Native code that holds an interpreter lock for as long as a test wants: ``lab.native``."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.timing import PATIENCE, until


class NativeHold:
    """A file lock that a call of ``lab.native`` waits for; see :func:`native_hold`.

    Attributes:
        params: those of the call.
    """

    def __init__(self, folder: Path) -> None:
        self._marker = folder / "native"
        self.params = {"marker": str(self._marker)}
        self._lock = open(f"{self._marker}.lock", "w")  # noqa: SIM115
        fcntl.flock(self._lock, fcntl.LOCK_EX)

    async def runs(self) -> None:
        """Wait until the call holds its executor."""
        await until(self._marker.exists, "the native code runs", 2 * PATIENCE)

    def let_go(self) -> None:
        """Let it end, and all that come after it."""
        self._lock.close()


@contextmanager
def native_hold(folder: Path) -> Iterator[NativeHold]:
    """Hold what calls ``lab.native``, until it is let go or the block ends."""
    hold = NativeHold(folder)
    try:
        yield hold
    finally:
        hold.let_go()
