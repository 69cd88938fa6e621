"""Why an executor's process has ended, and what becomes of the calls that it did not bring to an end."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Final, Literal

from trunkline_protocol.calls import Call
from trunkline_protocol.errors import ErrorCode, RpcError

RestartCause = Literal["killed_by_hub", "out_of_memory", "signal", "exit", "load_failed", "not_started"]
"""``killed_by_hub``: it was stuck, or not ready in time. ``out_of_memory``: the kernel ended it, for want of memory of
the machine or of its control group. ``signal``: something else did. ``exit``: the process ended itself.
``load_failed``: its methods could not be loaded."""

OUT_OF_MEMORY: Final = "out of memory: the kernel killed it"
PROC: Final = Path("/proc")
CGROUPS: Final = Path("/sys/fs/cgroup")

MAX_ATTEMPTS: Final = 3


def why_ended(code: int, hubs_reason: str | None, *, oom_killed: bool) -> tuple[RestartCause, str]:
    """The cause, as a word and in words.

    Args:
        code: exit status, a signal's number below 0.
        hubs_reason: why the hub killed it, if it did.
        oom_killed: the kernel's out-of-memory killer has been at work around its end.
    """
    if hubs_reason is not None:
        return "killed_by_hub", hubs_reason
    if code == -signal.SIGKILL and oom_killed:
        return "out_of_memory", OUT_OF_MEMORY
    return ("signal" if code < 0 else "exit"), describe_exit(code)


def describe_exit(code: int) -> str:
    """Words for an exit status."""
    if code < 0:
        try:
            return f"it was ended by {signal.Signals(-code).name}"
        except ValueError:
            return f"it was ended by signal {-code}"
    return f"it exited with code {code}"


class OomCounter:
    """How many processes the kernel has killed for want of memory, where one process lives.

    That is its control group (``memory.events`` of version 2, ``memory.oom_control`` of version 1), or the machine
    where it has none. Others may live there, too: what was killed long before an end is not its cause, so the count is
    to be looked at every now and then.

    Args:
        pid: of a process that is alive.
        proc, cgroups: where the kernel tells of processes and control groups.
    """

    def __init__(self, pid: int, proc: Path = PROC, cgroups: Path = CGROUPS) -> None:
        self._file = next((file for file in _counters(pid, proc, cgroups) if _count(file) is not None), None)
        self._last = self._before = self._read()

    def look(self) -> None:
        """The process is alive; of two looks the older counts: the kernel counts before the process is gone."""
        self._before, self._last = self._last, self._read()

    def has_grown(self) -> bool:
        """Whether something was killed since the look before the last."""
        return self._read() > self._before

    def _read(self) -> int:
        return 0 if self._file is None else _count(self._file) or 0


def _counters(pid: int, proc: Path, cgroups: Path) -> list[Path]:
    """Files that may hold the count, the best first (man 7 cgroups, /proc/[pid]/cgroup)."""
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
            # In a container the path may be the host's, and what is mounted is the container's own group.
            files += [cgroups / "memory" / each / "memory.oom_control" for each in (below, "")]
    return [*files, cgroups / "memory.events", proc / "vmstat"]


def _count(file: Path) -> int | None:
    """``oom_kill`` of a file of names and numbers; None where it is not there."""
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
    """Whether a call whose executor died may run on another: its input and its chunks cannot be taken back."""
    idempotent = call.info is not None and call.info.idempotent
    begun = call.chunks or (call.input is not None and call.input.begun)
    return idempotent and not begun and call.attempts < MAX_ATTEMPTS


def crashed(call: Call, *, stopping: bool) -> RpcError:
    """Its executor died; ``stopping``: because the hub is."""
    if stopping:
        words = f"the hub is stopping, and {call.method} was not done in the time it gives"
        return RpcError(ErrorCode.WORKER_CRASHED, words, maybe_executed=True, retry_after_ms=1000)
    tried = f" (attempt {call.attempts})" if call.attempts > 1 else ""
    return RpcError(
        ErrorCode.WORKER_CRASHED,
        f"the executor died while it ran {call.method}{tried}; it is being restarted",
        maybe_executed=True,
        retry_after_ms=1000,
    )


def not_done_in_time(call: Call, seconds: float) -> RpcError:
    """It held a hand-over up."""
    return RpcError(
        ErrorCode.WORKER_UNAVAILABLE,
        f"{call.method} was ended: another executor gets its routing key, and it was not done within {seconds:.3g} s",
        maybe_executed=True,
        retry_after_ms=0,
    )
