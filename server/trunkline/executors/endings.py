"""Why an executor's process has ended, and whether the calls that it did not finish run again."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Final, Literal

from trunkline_protocol.calls import Call
from trunkline_protocol.errors import ErrorCode, RpcError

RestartCause = Literal[
    "killed_by_hub", "out_of_memory", "signal", "exit", "load_failed", "not_started",
    "memory_soft", "memory_hard", "max_requests",
]  # fmt: skip
"""``killed_by_hub``: the process was stuck, or not ready in time. ``out_of_memory``: the kernel killed it, because the
machine or its control group was out of memory. ``signal``: another process killed it, or it crashed. ``exit``: it
exited. ``load_failed``: its methods could not be loaded. ``not_started``: it could not be spawned. ``memory_hard``: the
hub killed it for its memory. ``memory_soft``, ``max_requests``: the hub replaced it for these limits."""

OUT_OF_MEMORY: Final = "out of memory: the kernel killed it"
PROC: Final = Path("/proc")
CGROUPS: Final = Path("/sys/fs/cgroup")

MAX_ATTEMPTS: Final = 3


def why_ended(code: int, hubs_reason: str | None, *, oom_killed: bool) -> tuple[RestartCause, str]:
    """The cause of a process' end, as a name and as text.

    Args:
        code: exit status; a signal's number is negative.
        hubs_reason: why the hub killed the process; None if it did not.
        oom_killed: whether the kernel's out-of-memory killer has killed a process around that time.
    """
    if hubs_reason is not None:
        return "killed_by_hub", hubs_reason
    if code == -signal.SIGKILL and oom_killed:
        return "out_of_memory", OUT_OF_MEMORY
    return ("signal" if code < 0 else "exit"), describe_exit(code)


def describe_exit(code: int) -> str:
    """An exit status as text."""
    if code < 0:
        try:
            return f"it was ended by {signal.Signals(-code).name}"
        except ValueError:
            return f"it was ended by signal {-code}"
    return f"it exited with code {code}"


class OomCounter:
    """Counts the processes that the kernel's out-of-memory killer has killed in one process' control group.

    The count is in ``memory.events`` (version 2) or ``memory.oom_control`` (version 1) or, without a control group,
    that of the machine. Other processes may be in the group: one that was killed long before is not the cause of an
    end, so :meth:`look` has to be called every now and then.

    Args:
        pid: of a running process.
        proc, cgroups: where the file systems of processes and control groups are mounted.
    """

    def __init__(self, pid: int, proc: Path = PROC, cgroups: Path = CGROUPS) -> None:
        self._file = next((file for file in _counters(pid, proc, cgroups) if _count(file) is not None), None)
        self._last = self._before = self._read()

    def look(self) -> None:
        """Read the count while the process is alive; the last but one is used, as the kernel counts before an end."""
        self._before, self._last = self._last, self._read()

    def has_grown(self) -> bool:
        """Whether a process was killed since the last but one :meth:`look`."""
        return self._read() > self._before

    def _read(self) -> int:
        return 0 if self._file is None else _count(self._file) or 0


def _counters(pid: int, proc: Path, cgroups: Path) -> list[Path]:
    """The files that may contain the count, the best first (man 7 cgroups, /proc/[pid]/cgroup)."""
    try:
        lines = (proc / str(pid) / "cgroup").read_text().splitlines()
    except (OSError, UnicodeDecodeError):
        lines = []
    files = []
    for line in lines:
        _number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        below = path.lstrip("/")
        if not controllers:  # version 2, at the top or, beside version 1, in a folder of its own
            files += [root / below / "memory.events" for root in (cgroups, cgroups / "unified")]
        elif "memory" in controllers.split(","):
            # In a container the path may be that of the host, while the container's own group is mounted.
            files += [cgroups / "memory" / each / "memory.oom_control" for each in (below, "")]
    return [*files, cgroups / "memory.events", proc / "vmstat"]


def _count(file: Path) -> int | None:
    """The number after ``oom_kill`` in a file of names and numbers; None where there is none."""
    try:
        lines = file.read_text().splitlines()
    except (OSError, UnicodeDecodeError):
        return None
    for line in lines:
        name, _, number = line.partition(" ")
        if name == "oom_kill" and number.isascii() and number.isdigit():
            return int(number)
    return None


def may_run_again(call: Call) -> bool:
    """Whether a call whose executor died may run on another one: not after chunks or input, which cannot be undone."""
    idempotent = call.info is not None and call.info.idempotent
    begun = call.chunks or (call.input is not None and call.input.begun)
    return idempotent and not begun and call.attempts < MAX_ATTEMPTS


def crashed(call: Call, *, stopping: bool, exhausted: str | None = None) -> RpcError:
    """The error of a call whose executor died.

    Args:
        stopping: because the hub is stopping.
        exhausted: why the hub killed it for its memory, in words; None where it did not.
    """
    if exhausted is not None and not stopping:
        words = f"the executor was killed while it ran {call.method}: {exhausted}; give it less to do at once"
        return RpcError(ErrorCode.RESOURCE_EXHAUSTED, words, maybe_executed=True, retry_after_ms=1000)
    if stopping:
        words = f"the hub is stopping, and {call.method} did not finish within the drain time"
        return RpcError(ErrorCode.WORKER_CRASHED, words, maybe_executed=True, retry_after_ms=1000)
    tried = f" (attempt {call.attempts})" if call.attempts > 1 else ""
    return RpcError(
        ErrorCode.WORKER_CRASHED,
        f"the executor died while it ran {call.method}{tried}; it is being restarted",
        maybe_executed=True,
        retry_after_ms=1000,
    )


def not_done_in_time(call: Call, seconds: float) -> RpcError:
    """The error of a call that delayed a hand-over or a replacement for too long."""
    return RpcError(
        ErrorCode.WORKER_UNAVAILABLE,
        f"{call.method} was cancelled: its executor is replaced or its routing key moves to another one, and it did "
        f"not finish within {seconds:.3g} s",
        maybe_executed=True,
        retry_after_ms=0,
    )
