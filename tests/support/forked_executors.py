"""Executors of hubs under test, as processes that have the executor's modules already.

Four fifths of what an executor costs until it is ready are imports, and the tests start far more executors than hubs.
So a hub that was forked (``fork_server.py``) has a child that it forked before it did anything else, whose only work is
to fork executors. They are the hub's children, not that child's: ``CLONE_PARENT`` of clone(2) says so. What they see
is what an interpreter of their own would: folder, environment, limits, umask, process group and standard files. What
only a program that was started has (``/proc/self/environ``) they have not: tests that look there start their hubs with
``own_interpreters=True``.
"""

from __future__ import annotations

import ctypes
import inspect
import io
import json
import os
import platform
import resource
import runpy
import signal
import socket
import subprocess
import sys
import types
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, TextIO

MODULE: Final = "trunkline.executors.process"

NAME: Final = b"forks executors"
"""The name of the process that forks, as the kernel has it: 15 bytes at most."""

_CLONE: Final = {"x86_64": 56, "aarch64": 220}.get(platform.machine())
_CLONE_PARENT: Final = 0x8000
_PR_SET_NAME: Final = 15
_MAXIMUM: Final = 1 << 17
_LIMITS: Final = tuple(sorted({getattr(resource, name) for name in dir(resource) if name.startswith("RLIMIT_")}))


def begin(fits: Callable[[Mapping[str, str]], bool]) -> None:
    """Fork the process that forks executors, and let this hub ask it for its executors; returns in them as well.

    Args:
        fits: whether a process with such an environment may be forked.
    """
    if _CLONE is None:
        return
    requests, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for end in (requests, theirs):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _MAXIMUM)
    if os.fork() == 0:
        requests.close()
        serve(theirs)
    theirs.close()
    supervisor: Any = sys.modules["trunkline.executors.supervisor"]
    processes = types.ModuleType("subprocess")
    vars(processes).update(vars(subprocess) | {"Popen": _asking(requests, fits)})
    supervisor.subprocess = processes


def _asking(requests: socket.socket, fits: Callable[[Mapping[str, str]], bool]) -> type[subprocess.Popen[bytes]]:
    """The class of processes that are forked on request, where they would be executors of this interpreter."""

    class Executor(subprocess.Popen[bytes]):
        # What Popen does before and after it has a process is as it was: pipes, polls, signals, the exit status.
        def _execute_child(self, *arguments: Any) -> None:
            plain: Any = super()
            given = inspect.signature(plain._execute_child).bind(*arguments).arguments
            command, env = given["args"], given["env"]
            if command[:3] != [sys.executable, "-m", MODULE] or not fits(env):
                plain._execute_child(*arguments)
                return
            (wire,) = given["pass_fds"]
            request = {
                "env": env,
                "limits": [resource.getrlimit(limit) for limit in _LIMITS],
                "umask": _umask(),
            }
            fds = [given["p2cread"], given["c2pwrite"], given["errwrite"], wire]
            socket.send_fds(requests, [json.dumps(request).encode()], fds)
            self.pid = int.from_bytes(requests.recv(8), "big")
            assert self.pid, "the process that forks executors has ended"
            self._child_created = True
            pipes = ("p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite")
            self._close_pipe_fds(*(given[each] for each in pipes))  # type: ignore[attr-defined]

    return Executor


def _umask() -> int:
    os.umask(found := os.umask(0o077))
    return found


def serve(requests: socket.socket) -> None:
    """Fork for each request until there will be no more, and be the executor in each child; never returns."""
    null = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(null, number)
    os.close(null)
    _rename(NAME)
    name = Path(f"/proc/{os.getppid()}/comm").read_bytes().strip()
    while True:
        request, fds, _, _ = socket.recv_fds(requests, _MAXIMUM, 4)
        if not request:
            os._exit(0)
        if (pid := _fork_for_parent()) == 0:
            break
        requests.send(pid.to_bytes(8, "big"))
        for fd in fds:
            os.close(fd)
    requests.close()
    _rename(name)
    *files, wire = fds
    for number, fd in enumerate(files):
        os.dup2(fd, number)
    for fd in {*files} - {0, 1, 2}:
        os.close(fd)
    run(wire, **json.loads(request))


def _rename(name: bytes) -> None:
    ctypes.CDLL(None).prctl(_PR_SET_NAME, ctypes.c_char_p(name))


def _fork_for_parent() -> int:
    """Fork as :func:`os.fork` does, but that the child is one of this process's parent."""
    python = ctypes.PyDLL(None)  # the interpreter's lock stays with the thread, as it does in os.fork
    python.PyOS_BeforeFork()
    assert _CLONE is not None
    pid = python.syscall(*map(ctypes.c_long, (_CLONE, _CLONE_PARENT | signal.SIGCHLD, 0, 0, 0, 0)))
    if pid:
        python.PyOS_AfterFork_Parent()
        assert pid > 0, "clone failed"
    else:
        python.PyOS_AfterFork_Child()
    return int(pid)


def run(wire: int, env: Mapping[str, str], limits: list[tuple[int, int]], umask: int) -> None:
    """Be the interpreter that a hub starts for an executor; never returns."""
    os.setpgid(0, 0)
    os.umask(umask)
    for limit, wanted in zip(_LIMITS, limits, strict=True):
        if resource.getrlimit(limit) != tuple(wanted):
            resource.setrlimit(limit, wanted)
    os.environ.clear()
    os.environ.update(env)
    os.set_inheritable(wire, True)
    sys.argv = [MODULE, str(wire)]
    sys.path.insert(0, str(Path.cwd()))
    open_standard_files(unbuffered=bool(env.get("PYTHONUNBUFFERED")))
    runpy.run_module(MODULE, run_name="__main__", alter_sys=True)
    os._exit(0)


def open_standard_files(*, unbuffered: bool) -> None:
    """Let ``sys`` have the standard files that there are now, as the interpreter has when it starts."""

    def opened(fd: int, usual: TextIO | None) -> io.TextIOWrapper:
        file: Any = open(fd, "wb" if fd else "rb", buffering=0 if fd and unbuffered else -1, closefd=False)  # noqa: SIM115
        errors = usual.errors if usual is not None else None
        return io.TextIOWrapper(
            file, encoding="utf-8", errors=errors, write_through=bool(fd) and unbuffered, line_buffering=fd == 2
        )

    sys.stdin, sys.stdout, sys.stderr = map(opened, range(3), (sys.__stdin__, sys.__stdout__, sys.__stderr__))
