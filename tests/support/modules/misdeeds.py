"""Methods that harm their executor, beside those of ``recorded``: see ``tests/faults/recorder``.

Each has the params of ``recorded.echo``. What it does follows from ``value``; where it survives, that is its result.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import time

from endings import BAD, end_badly
from recorded import executed

from trunkline import method

SOFT_MIB, HARD_MIB = 150, 500
"""Sizes beyond the group's soft limit of memory, and beyond the hard one."""

_kept: list[object] = []


@method("misdeeds.raises")
async def raises(work: str, value: int, seconds: float = 0) -> int:
    """Raise something that is no Exception, or cannot be read, or is huge."""
    executed(work)
    end_badly(sorted(BAD)[value % len(BAD)])
    return value


@method("misdeeds.raises_in_thread")
def raises_in_thread(work: str, value: int, seconds: float = 0) -> int:
    """The same in a plain function."""
    executed(work)
    end_badly(sorted(BAD)[value % len(BAD)])
    return value


@method("misdeeds.exits")
async def exits(work: str, value: int, seconds: float = 0) -> int:
    """End the process."""
    executed(work)
    if value % 2:
        os.abort()
    os._exit(value % 3)


@method("misdeeds.hangs", timeout_ms=300)
def hangs(work: str, value: int, seconds: float = 0) -> int:
    """Go on after the deadline; half of the time without letting the interpreter lock go."""
    executed(work)
    if value % 2:
        time.sleep(2.0)
    else:
        sum(range(60_000_000))
    return value


@method("misdeeds.forks")
def forks(work: str, value: int, seconds: float = 0) -> int:
    """Leave processes behind: forked ones, started ones, and one that has ended and nobody waited for."""
    executed(work)
    if value % 2:
        if os.fork() == 0:
            time.sleep(600)
            os._exit(0)
    else:
        _kept.append(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]))
    _kept.append(subprocess.Popen([sys.executable, "-c", ""]))
    return value


@method("misdeeds.leaks")
async def leaks(work: str, value: int, seconds: float = 0) -> int:
    """Keep descriptors, threads and tasks; the tasks raise later on."""
    executed(work)
    for _ in range(10):
        _kept.extend(os.pipe())
        threading.Thread(target=time.sleep, args=(600,), daemon=True).start()
        _kept.append(asyncio.create_task(_raise_later(value)))
    return value


async def _raise_later(value: int) -> None:
    await asyncio.sleep(0.2)
    end_badly(sorted(BAD)[value % len(BAD)])


@method("misdeeds.bloats")
def bloats(work: str, value: int, seconds: float = 0) -> int:
    """Grow beyond the soft limit of memory, or beyond the hard one."""
    executed(work)
    _kept.append(b"x" * ((HARD_MIB if value % 2 else SOFT_MIB) << 20))
    time.sleep(seconds)
    return value
