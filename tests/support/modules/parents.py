"""Methods that start processes of their own, as any Python program may."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
from multiprocessing.pool import Pool

from trunkline import method


def _square(number: int) -> int:
    return number * number


@method("parents.terminate")
def terminate(number: str) -> int:
    """The status of a program that was asked to end."""
    child = subprocess.Popen([sys.executable, "-c", "import time; print('up', flush=True); time.sleep(300)"], stdout=-1)
    assert child.stdout is not None
    child.stdout.readline()
    child.send_signal(signal.Signals[number])
    child.communicate(timeout=60)
    return child.returncode


@method("parents.pool")
def pool() -> list[int]:
    """What two forked workers worked out; then the pool is terminated."""
    with multiprocessing.get_context("fork").Pool(2) as workers:
        assert isinstance(workers, Pool)
        return workers.map(_square, range(4))


@method("parents.leave")
def leave(then: str = "") -> int:
    """A child that is left to itself; ``then`` its parent may be killed."""
    child = subprocess.Popen(["sleep", "300"])
    if then:
        os.kill(os.getpid(), signal.Signals[then])
    return child.pid


@method("parents.signal")
def signal_itself() -> int:
    """What systemd does to every process of a service."""
    os.kill(os.getpid(), signal.SIGTERM)
    os.kill(os.getpid(), signal.SIGINT)
    return os.getpid()
