"""Why an executor has ended, and what the kernel's counters say of it."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from tests.support.hub import DEBUG_METHODS
from tests.support.timing import PATIENCE, until
from trunkline.executors.endings import OUT_OF_MEMORY, OomCounter, why_ended
from trunkline.executors.handle import ExecutorHandle
from trunkline.executors.specs import ExecutorSpec
from trunkline.executors.supervisor import Supervisor

KILLED = -signal.SIGKILL
PID = 4711


@pytest.mark.parametrize(
    ("code", "reason", "oom_killed", "ending"),
    [
        (KILLED, None, True, ("out_of_memory", OUT_OF_MEMORY)),
        (KILLED, None, False, ("signal", "it was ended by SIGKILL")),
        (KILLED, "it was stuck", True, ("killed_by_hub", "it was stuck")),
        (-signal.SIGSEGV, None, True, ("signal", "it was ended by SIGSEGV")),
        (-250, None, False, ("signal", "it was ended by signal 250")),
        (0, None, True, ("exit", "it exited with code 0")),
        (3, None, False, ("exit", "it exited with code 3")),
    ],
)
def test_the_cause_of_an_end(code: int, reason: str | None, oom_killed: bool, ending: tuple[str, str]) -> None:
    assert why_ended(code, reason, oom_killed=oom_killed) == ending


class Kernel:
    """Files as the kernel shows them."""

    def __init__(self, folder: Path, cgroup: str) -> None:
        self.proc, self.cgroups = folder / "proc", folder / "cgroup"
        (self.proc / str(PID)).mkdir(parents=True)
        (self.proc / str(PID) / "cgroup").write_text(cgroup)

    def counts(self, file: str, number: int | None, *, proc: bool = False) -> None:
        path = (self.proc if proc else self.cgroups) / file
        path.parent.mkdir(parents=True, exist_ok=True)
        line = "" if number is None else f"oom_kill {number}\n"
        path.write_text(f"low 0\nmax 7\noom 9\n{line}oom_group_kill 5\n")

    def counter(self) -> OomCounter:
        return OomCounter(PID, self.proc, self.cgroups)


LAYOUTS = {
    "version 2": ("0::/app.slice/hub\n", "app.slice/hub/memory.events"),
    "version 2, in a container": ("0::/\n", "memory.events"),
    "version 1": ("4:cpu,memory:/docker/ab\n0::/\n", "memory/docker/ab/memory.oom_control"),
    "version 1, in a container": ("4:memory:/docker/of-the-host\n", "memory/memory.oom_control"),
    "version 2 beside version 1": ("3:cpu:/x\n0::/user\n", "unified/user/memory.events"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_count_is_that_of_the_processs_group(tmp_path: Path, layout: str) -> None:
    cgroup, file = LAYOUTS[layout]
    kernel = Kernel(tmp_path, cgroup)
    kernel.counts(file, 2)
    kernel.counts("vmstat", 100, proc=True)
    counter = kernel.counter()
    kernel.counts("vmstat", 101, proc=True)
    assert not counter.has_grown(), "that was elsewhere"
    kernel.counts(file, 3)
    assert counter.has_grown()


def test_without_a_group_the_machine_counts(tmp_path: Path) -> None:
    kernel = Kernel(tmp_path, "0::/\n")
    kernel.counts("memory.events", None)
    kernel.counts("vmstat", 1, proc=True)
    counter = kernel.counter()
    kernel.counts("vmstat", 2, proc=True)
    assert counter.has_grown()


def test_where_nothing_is_told_nothing_grows(tmp_path: Path) -> None:
    kernel = Kernel(tmp_path, "nonsense\n\n0:\n")
    counter = kernel.counter()
    counter.look()
    assert not counter.has_grown()
    assert not OomCounter(PID + 1, kernel.proc, kernel.cgroups).has_grown()


def test_what_was_killed_long_ago_is_not_the_cause(tmp_path: Path) -> None:
    kernel = Kernel(tmp_path, "0::/g\n")
    kernel.counts("g/memory.events", 0)
    counter = kernel.counter()
    kernel.counts("g/memory.events", 1)
    counter.look()
    assert counter.has_grown(), "the process may be dying of it right now"
    counter.look()
    assert not counter.has_grown(), "it lives on: that was another one"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells")
def test_this_machines_files_can_be_read() -> None:
    counter = OomCounter(os.getpid())
    counter.look()
    assert counter.has_grown() in (True, False)


@pytest.mark.parametrize(("grows", "cause"), [(True, "out_of_memory"), (False, "signal")])
async def test_a_real_executor_that_is_killed(tmp_path: Path, grows: bool, cause: str) -> None:
    """The process and the signal are real; the kernel's file is one of ours."""
    kernel = Kernel(tmp_path, "0::/g\n")
    kernel.counts("g/memory.events", 3)
    ended = asyncio.Event()
    handle = ExecutorHandle(0, {}, lambda _: None, 1)
    supervisor = Supervisor(handle, ExecutorSpec((DEBUG_METHODS,)), lambda *_: ended.set(), lambda _: kernel.counter())
    supervisor.start()
    try:
        async with asyncio.timeout(2 * PATIENCE):
            pid = await until(lambda: handle.pid, "it runs")
            if grows:
                kernel.counts("g/memory.events", 4)
            os.kill(pid, signal.SIGKILL)
            await ended.wait()
        assert handle.restart_causes == {cause: 1}
        assert handle.last_restart is not None
        assert ("out of memory" in handle.last_restart.words) is grows
    finally:
        await supervisor.stop(PATIENCE)
