"""The pauses of ``make test-pauses``: whom they stop, that all go on, and what the command's end becomes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress

import psutil
import pytest

from tests.support.pauses import NOT_FOUND, main, pause
from tests.support.timing import eventually

WAITS = "import signal; signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCONT]); print(flush=True);"
"""A process that can tell whether somebody let it go on."""

CONTINUED = (
    f"import subprocess, sys; sys.exit(subprocess.Popen([sys.executable, '-c', {WAITS!r} + sys.argv[1]]).wait())"
)
"""A command whose child says how it ends."""


def command(child: str) -> list[str]:
    return ["--seed", "1", sys.executable, "-c", CONTINUED, child]


def test_what_is_below_the_command_is_stopped_and_goes_on_and_nobody_else(capfd: pytest.CaptureFixture[str]) -> None:
    asks = WAITS + "input(); print(signal.sigpending())"
    with subprocess.Popen([sys.executable, "-c", asks], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        assert main(command("[signal.sigwait([signal.SIGCONT]) for _ in range(3)]; raise SystemExit(7)")) == 7
        assert other.communicate(b"\n")[0] == b"set()\n"
    assert "--seed 1 draws them again" in capfd.readouterr().err


def test_a_signal_that_ends_the_command_is_told_as_shells_do() -> None:
    assert main([sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"]) == 128 + signal.SIGKILL
    assert main(["/no/such/program"]) == NOT_FOUND


def test_what_somebody_else_stopped_stays_so() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as stopped:
        process = psutil.Process(stopped.pid)
        process.suspend()
        eventually(lambda: process.status() == psutil.STATUS_STOPPED, "it is stopped")
        assert not pause(process, 0)
        assert process.status() == psutil.STATUS_STOPPED
        process.resume()
    assert not pause(process, 0), "nor is there anything to do for who has ended"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_what_is_to_end_it_ends_the_command_and_leaves_nobody_stopped(number: signal.Signals) -> None:
    """The command is told, and who was stopped at that moment goes on: it ends by itself, for its input does."""
    module = [sys.executable, "-m", "tests.support.pauses"]
    child = "import os; print(os.getpid(), flush=True); input()"
    pauses = subprocess.Popen([*module, *command(child)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with pauses:
        assert pauses.stdin is not None
        assert pauses.stdout is not None
        pauses.stdout.readline()
        process = psutil.Process(int(pauses.stdout.readline()))
        try:
            eventually(lambda: process.status() == psutil.STATUS_STOPPED, "it is stopped")
            os.kill(pauses.pid, number)
            pauses.wait()
            pauses.stdin.close()
            eventually(lambda: not process.is_running() or process.status() == psutil.STATUS_ZOMBIE, "it has ended")
        finally:
            with suppress(psutil.NoSuchProcess):
                process.kill()
    assert pauses.returncode == 128 + number
