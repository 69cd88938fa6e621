"""Hubs as processes that have the product's modules already: forked from a process that did nothing but import them.

Nearly all that a hub costs until it listens is the same for each, and the tests start hundreds of hubs. The process
that is forked has no thread, no loop and no file open beside its outputs; a child of it gets working directory,
environment, standard files and command line as a new interpreter would, and runs the same module as ``__main__``. What
interpreters read from their environment when they start is not read again: ``fits`` says where that matters.

:func:`main` is that process; it ends with the one that started it.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import ctypes
import functools
import gc
import importlib
import json
import os
import runpy
import selectors
import signal
import socket
import subprocess
import sys
import threading
from asyncio.streams import FlowControlMixin
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Final, Self

from tests.support import forked_executors

PRELOADED: Final = (
    "trunkline.cli.demo",
    "trunkline.cli.main",
    "trunkline.executors.process",
    "trunkline.hosting.code_watch",
    "trunkline.hosting.lifecycle",
    "trunkline.hosting.http_endpoints",
    "trunkline.observe.logs",
)
"""What a hub and its executors import, and with that all they have when they are ready."""

MAXIMUM: Final = 1 << 17
"""Bytes of a request: an environment and a command line."""


def fits(env: Mapping[str, str]) -> bool:
    """Whether a process with such an environment may be forked: not where the interpreter itself is told something."""
    if sys.platform != "linux" or "coverage" in sys.modules:
        return False
    changed = {name for name in {*env, *os.environ} if env.get(name) != os.environ.get(name)} - {"PYTHONUNBUFFERED"}
    return not any(name.startswith(("PYTHON", "LC_", "LANG", "LD_", "MALLOC_", "TZ", "FAKETIME")) for name in changed)


class ForkedProcess:
    """A process that the fork server started, with what tests use of :class:`subprocess.Popen`.

    Args:
        program: the interpreter's arguments.
        cwd: its working directory.
        env: its environment.
        stdin: its standard input.
        is_hub: whether it starts executors, which are forked as well then: see ``forked_executors.py``.
    """

    def __init__(
        self,
        program: Sequence[str],
        *,
        cwd: str,
        env: Mapping[str, str],
        stdin: int = subprocess.DEVNULL,
        is_hub: bool = False,
    ) -> None:
        self.args = [sys.executable, *program]
        self._code: int | None = None
        self._waiting = threading.Lock()
        out, err, status = os.pipe(), os.pipe(), os.pipe()
        source, theirs = self._source(stdin)
        request = {"program": list(program), "cwd": cwd, "env": dict(env), "is_hub": is_hub}
        running_server().start(json.dumps(request).encode(), [theirs, out[1], err[1], status[1]])
        for fd in {theirs, out[1], err[1], status[1]} - {stdin}:
            os.close(fd)
        self._fds = source, out[0], err[0]
        self._status = open(status[0], "rb", buffering=0)  # noqa: SIM115
        self.pid = int.from_bytes(self._status.read(8), "big")

    @staticmethod
    def _source(stdin: int) -> tuple[int | None, int]:
        """The own end of a pipe, if there is to be one, and what the process reads from."""
        if stdin == subprocess.PIPE:
            theirs, own = os.pipe()
            return own, theirs
        return None, os.open(os.devnull, os.O_RDONLY) if stdin == subprocess.DEVNULL else stdin

    @property
    def returncode(self) -> int | None:
        """The exit status, as :meth:`poll` says it."""
        return self.poll()

    def poll(self) -> int | None:
        """The exit status, negative for a signal; None while it runs."""
        return self._look(0.0)

    def wait(self, timeout: float | None = None) -> int:
        """The exit status, once it has ended.

        Raises:
            subprocess.TimeoutExpired: it has not in time.
        """
        if (code := self._look(timeout)) is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0.0)
        return code

    def _look(self, timeout: float | None) -> int | None:
        with self._waiting:
            if self._code is None:
                with selectors.DefaultSelector() as selector:
                    selector.register(self._status, selectors.EVENT_READ)
                    if selector.select(timeout):
                        told = self._status.read(8)
                        assert told is not None
                        assert len(told) == 8, "the fork server has ended"
                        self._code = int.from_bytes(told, "big", signed=True)
                        self._status.close()
            return self._code

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it has ended: perhaps just now, and the fork server leaves no zombie."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def terminate(self) -> None:
        """Send SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL."""
        self.send_signal(signal.SIGKILL)


class Forked(ForkedProcess):
    """One with text as its standard files.

    Attributes:
        stdin: None unless it is a pipe.
    """

    def __init__(
        self,
        program: Sequence[str],
        *,
        cwd: str,
        env: Mapping[str, str],
        stdin: int = subprocess.DEVNULL,
        is_hub: bool = False,
    ) -> None:
        super().__init__(program, cwd=cwd, env=env, stdin=stdin, is_hub=is_hub)
        source, out, err = self._fds
        self.stdin: IO[str] | None = None
        if source is not None:
            self.stdin = open(source, "w", encoding="utf-8", buffering=1)  # noqa: SIM115
        self.stdout: IO[str] = open(out, encoding="utf-8")  # noqa: SIM115
        self.stderr: IO[str] = open(err, encoding="utf-8")  # noqa: SIM115

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Kill it, if it runs still, and close its files."""
        self.kill()
        self.wait()
        for stream in (self.stdin, self.stdout, self.stderr):
            if stream is not None:
                stream.close()


class ForkedOnLoop(ForkedProcess):
    """One with streams of the running loop, as :class:`asyncio.subprocess.Process` has them: see :meth:`start`."""

    stdin: asyncio.StreamWriter
    stdout: asyncio.StreamReader
    stderr: asyncio.StreamReader

    @classmethod
    async def start(
        cls, program: Sequence[str], *, cwd: str, env: Mapping[str, str], limit: int, is_hub: bool = False
    ) -> Self:
        """Start a process whose standard files are pipes; streams hold ``limit`` bytes before they wait."""
        process = cls(program, cwd=cwd, env=env, stdin=subprocess.PIPE, is_hub=is_hub)
        loop = asyncio.get_running_loop()
        source, out, err = process._fds
        assert source is not None
        pipe = os.fdopen(source, "wb", 0)
        transport, protocol = await loop.connect_write_pipe(lambda: FlowControlMixin(loop), pipe)
        process.stdin = asyncio.StreamWriter(transport, protocol, None, loop)
        process.stdout, process.stderr = await _reader(out, limit), await _reader(err, limit)
        return process

    async def ended(self) -> int:
        """The exit status, once it has ended."""
        loop = asyncio.get_running_loop()
        if (code := self.poll()) is None:
            readable = asyncio.Event()
            loop.add_reader(self._status, readable.set)
            try:
                await readable.wait()
            finally:
                loop.remove_reader(self._status)
            code = self.wait()
        return code


async def _reader(fd: int, limit: int) -> asyncio.StreamReader:
    reader = asyncio.StreamReader(limit)
    pipe = os.fdopen(fd, "rb", 0)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), pipe)
    return reader


class ForkServer:
    """The process that forks, seen from the tests' side: one for each of their processes."""

    def __init__(self) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, MAXIMUM)
        with theirs:
            program = "from tests.support.fork_server import main; main()"
            self._process = subprocess.Popen(
                [sys.executable, "-c", program, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                cwd=Path(__file__).parents[2],
            )
        atexit.register(self.close)

    def start(self, request: bytes, fds: list[int]) -> None:
        """Start a process; the files are its standard ones, and where its number and its exit status are written."""
        socket.send_fds(self._socket, [request], fds)

    def close(self) -> None:
        """End it; what it forked goes on."""
        self._socket.close()
        self._process.wait()


@functools.cache
def running_server() -> ForkServer:
    """The fork server of this process, which is started where there is none yet."""
    return ForkServer()


def serve(requests: socket.socket) -> dict[str, object] | None:
    """Fork for each request until there will be no more; in a child, returns what it has to run, otherwise None."""
    children: dict[int, int] = {}
    awake, wakes = socket.socketpair()
    for end in (awake, wakes):
        end.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wakes.fileno(), warn_on_full_buffer=False)
    with selectors.DefaultSelector() as selector:
        selector.register(requests, selectors.EVENT_READ)
        selector.register(awake, selectors.EVENT_READ)
        while True:
            ready = [key.fileobj for key, _ in selector.select()]
            if awake in ready:
                awake.recv(4096)
                _reap(children)
            if requests not in ready:
                continue
            request, fds, _, _ = socket.recv_fds(requests, MAXIMUM, 4)
            if not request:
                return None
            *files, status = fds
            if (pid := os.fork()) == 0:
                break
            os.write(status, pid.to_bytes(8, "big"))
            children[pid] = status
            for fd in files:
                os.close(fd)
    signal.set_wakeup_fd(-1)
    for each in (requests, awake, wakes):
        each.close()
    for fd in (status, *children.values()):
        os.close(fd)
    _take_over(files)
    found: dict[str, object] = json.loads(request)
    return found


def _reap(children: dict[int, int]) -> None:
    while children:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            return
        with open(children.pop(pid), "wb", buffering=0) as told:
            told.write(os.waitstatus_to_exitcode(status).to_bytes(8, "big", signed=True))


def _take_over(files: list[int]) -> None:
    """Let files be the standard ones, and signals what they are in a new process."""
    for number, fd in enumerate(files):
        os.dup2(fd, number)
        os.close(fd)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG: tests that are killed leave no hubs
    forked_executors.open_standard_files(unbuffered=True)


def run(program: Sequence[str], cwd: str, env: Mapping[str, str], is_hub: bool) -> None:
    """Be the interpreter of a command line: ``-m MODULE ...`` or ``-P FILE ...``."""
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    if is_hub:
        forked_executors.begin(fits)
    kind, name, *arguments = program
    sys.argv = [name, *arguments]
    if kind == "-m":
        sys.path.insert(0, str(Path.cwd()))
        runpy.run_module(name, run_name="__main__", alter_sys=True)
    else:
        runpy.run_path(name, run_name="__main__")


def prepare() -> None:
    """Do what every hub does before it looks at what it was told: import, and make the command of its functions.

    What is there by then is no child's garbage: the collector would write into pages that they all share.
    """
    for module in PRELOADED:
        __import__(module)
    del sys.modules[forked_executors.MODULE]  # it will be ``__main__``
    sys.path.remove("")  # where ``tests`` is: neither is seen by the children
    for module in [each for each in sys.modules if each.partition(".")[0] == "tests"]:
        del sys.modules[module]
    typer = importlib.import_module("typer.main")
    vars(typer)["get_command"] = functools.cache(typer.get_command)
    typer.get_command(importlib.import_module("trunkline.cli.main").app)
    gc.collect()
    gc.freeze()


def main() -> None:
    """Import, and fork."""
    prepare()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # which is the tests' to answer
    requests = socket.socket(fileno=int(sys.argv[1]))
    if (found := serve(requests)) is not None:
        run(**found)  # type: ignore[arg-type]
