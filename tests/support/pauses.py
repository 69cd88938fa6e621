"""Run a command, and let one random process below it stand still for a moment, again and again, until it ends.

``python -m tests.support.pauses [--seed N] COMMAND...``: on a busy machine any process may stand still anywhere, and
tests that race fail. A seed draws the same lengths and places in the list of processes; what they are doing then is the
system's. A test that stops a process itself may find it going on again: that is no find.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Final

import psutil

SECONDS_BETWEEN: Final = (0.005, 0.05)
"""The shortest and the longest time in which nothing is stopped."""

SECONDS_STOPPED: Final = (0.02, 0.05, 0.1, 0.3)
"""How long one stands still: far below the limits of tests, which are PATIENCE and more."""

RUNS: Final = frozenset({psutil.STATUS_RUNNING, psutil.STATUS_SLEEPING, psutil.STATUS_DISK_SLEEP})
"""States of processes that may be stopped, and continued: what somebody else stopped stays so."""

NOT_FOUND: Final = 127
"""Exit status of shells for a command that cannot be started."""


def below(command: psutil.Process) -> list[psutil.Process]:
    """The processes that a command has started, and theirs, by number; not its own."""
    with contextlib.suppress(psutil.Error):
        return sorted(command.children(recursive=True), key=lambda process: process.pid)
    return []


def pause(process: psutil.Process, seconds: float) -> bool:
    """Stop a process and let it go on; False if it has ended, or does not run."""
    with contextlib.suppress(psutil.Error):
        if process.status() not in RUNS:
            return False
        try:
            process.suspend()
            time.sleep(seconds)
        finally:
            process.resume()
        return True
    return False


@contextlib.contextmanager
def passing_on(command: subprocess.Popen[bytes]) -> Iterator[None]:
    """What would end this process ends the command instead: whatever is stopped goes on first."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    former = {number: signal.signal(number, lambda got, _frame: command.send_signal(got)) for number in numbers}
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def run(words: Sequence[str], chance: random.Random) -> tuple[int, int]:
    """Run a command to its end: its exit status, 128 and the number for a signal, and how many pauses there were.

    It has a session of its own, so that a terminal's Ctrl-C comes to it once, through this process.

    Raises:
        OSError: it cannot be started.
    """
    pauses = 0
    command = subprocess.Popen(words, start_new_session=True)
    with passing_on(command):
        root = psutil.Process(command.pid)
        while command.poll() is None:
            time.sleep(chance.uniform(*SECONDS_BETWEEN))
            if processes := below(root):
                pauses += pause(chance.choice(processes), chance.choice(SECONDS_STOPPED))
    code = command.returncode
    return (code if code >= 0 else 128 - code), pauses


def main(arguments: Sequence[str] | None = None) -> int:
    """The command's exit status; the seed is said before and after."""
    about, _, more = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(prog="python -m tests.support.pauses", description=about, epilog=more)
    parser.add_argument("--seed", type=int, help="draws the pauses; a random one if not given")
    parser.add_argument("command", nargs=argparse.REMAINDER, metavar="COMMAND", help="with its arguments")
    wanted = parser.parse_args(arguments)
    if not wanted.command:
        parser.error("which command?")
    seed = random.randrange(10**6) if wanted.seed is None else wanted.seed
    print(f"pauses: --seed {seed}", file=sys.stderr, flush=True)
    try:
        code, pauses = run(wanted.command, random.Random(seed))
    except OSError as error:
        print(f"pauses: {wanted.command[0]}: {error.strerror}", file=sys.stderr)
        return NOT_FOUND
    print(f"pauses: {pauses}; --seed {seed} draws them again", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
