"""A real hub as a process of its own."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Final

import psutil

from tests.support import fork_server, forked_executors
from tests.support.fork_server import Forked
from tests.support.timing import PATIENCE, START, eventually

MODULES: Final = Path(__file__).with_name("modules")
"""Working directory of hubs that serve the tests' own method modules."""

PATCHED_HUB: Final = Path(__file__).with_name("patched_hub.py")

DEBUG_METHODS: Final = "trunkline.methods.debug"


def clean_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's environment without settings that would leak into the hub. Methods get what is added to it."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TRUNKLINE_")}
    added = dict(extra or {})
    if for_methods := ",".join(name for name in added if not name.startswith("TRUNKLINE_")):
        kept["TRUNKLINE_EXECUTOR_ENV"] = for_methods
    return kept | {"PYTHONUNBUFFERED": "1"} | added


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


def started(
    program: Sequence[str], cwd: Path | str, env: Mapping[str, str], stdin: int, *, own_interpreters: bool
) -> Forked | subprocess.Popen[str]:
    """A process that runs what an interpreter with such arguments would."""
    if fork_server.fits(env) and not own_interpreters:
        return Forked(program, cwd=str(cwd), env=env, stdin=stdin, is_hub=True)
    return subprocess.Popen(
        [sys.executable, *program],
        cwd=cwd,
        env=env,
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


class RunningHub:
    """A hub process. Leaving the ``with`` block stops it by SIGTERM and checks that it ended well.

    Args:
        methods: modules to serve.
        arguments: more of the command line.
        env: more of the environment.
        cwd: where the hub runs; a temporary folder if None.
        executors: how many.
        stdin: its standard input.
        constants: seconds that are no settings, by module and name: see ``patched_hub.py``.
        own_interpreters: whether hub and executors are to be programs that were started, not forked: for tests of what
            the kernel says about them.
    """

    def __init__(
        self,
        methods: Sequence[str] = (DEBUG_METHODS,),
        *,
        arguments: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        executors: int = 1,
        stdin: int = subprocess.DEVNULL,
        constants: Mapping[str, float] | None = None,
        own_interpreters: bool = False,
    ) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="trunkline-test-")
        self.data = Path(self._folder.name) / "data"
        program = ["-m", "trunkline.cli"] if constants is None else ["-P", str(PATCHED_HUB), json.dumps(constants)]
        command = [*program, "serve", "--port", "0", "--packs", "none", "--no-demo"]
        command += ["--data", str(self.data), "--executors", str(executors)]
        for name in methods:
            command += ["--methods", name]
        self.executors = executors
        self.spawned_at = time.monotonic()
        self.listening_after = self.ready_after = 0.0
        self.process = started(
            [*command, *arguments],
            cwd or self._folder.name,
            clean_environment(env),
            stdin,
            own_interpreters=own_interpreters,
        )
        self.stdout: list[str] = []
        self.stderr: list[str] = []
        self._said = threading.Condition()
        self._executor_pids: set[int] = set()
        self._has_ended = False
        self._readers = [
            threading.Thread(target=self._read, args=(stream, lines), daemon=True)
            for stream, lines in ((self.process.stdout, self.stdout), (self.process.stderr, self.stderr))
        ]
        for reader in self._readers:
            reader.start()

    def __enter__(self) -> RunningHub:
        try:
            self.url = self.wait_for(r"listening on (wss?://\S+)", within=START)[1]
            self.listening_after = time.monotonic() - self.spawned_at
        except BaseException:
            self.discard()
            raise
        address: str = self.url.partition("://")[2].removesuffix("/ws")
        self.host, port = address.rsplit(":", 1)
        self.port = int(port)
        return self

    def __exit__(self, kind: type[BaseException] | None, _error: object, _trace: TracebackType | None) -> None:
        try:
            if kind is None and not self._has_ended:
                self.stop()
        finally:
            self.discard()

    def ready(self) -> RunningHub:
        """Wait until all executors are warm."""
        self.wait_for(r"^ready:", within=START)
        self.ready_after = time.monotonic() - self.spawned_at
        self.executor_pids()
        return self

    def wait_for(self, pattern: str, *, within: float = PATIENCE) -> re.Match[str]:
        """Wait until a line of stdout or stderr matches."""
        compiled = re.compile(pattern)
        limit = time.monotonic() + within

        def find() -> re.Match[str] | None:
            for line in (*self.stdout, *self.stderr):
                if (found := compiled.search(line)) is not None:
                    return found
            return None

        with self._said:
            while (found := find()) is None:
                ended = self.process.poll() is not None and not any(reader.is_alive() for reader in self._readers)
                assert not ended, f"the hub ended ({self.process.returncode}) without saying {pattern!r}:\n{self.words}"
                assert time.monotonic() < limit, f"the hub does not say {pattern!r}:\n{self.words}"
                self._said.wait(0.1)
        return found

    @property
    def words(self) -> str:
        """Its last words, for messages."""
        return "\n".join([*self.stdout[-20:], *self.stderr[-40:]])

    def executor_pids(self) -> set[int]:
        """The executors alive now."""
        pids = executors_of(self.process.pid)
        self._executor_pids |= pids
        return pids

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Ask it to stop; it has to obey, exit with 0 and leave no executor."""
        self.executor_pids()
        self.process.send_signal(number)
        self.wait_ended(0)

    def wait_ended(self, code: int, *, within: float = 2 * PATIENCE) -> None:
        """Wait for its end, and until all it said is read; check exit code and leftovers."""
        try:
            found = self.process.wait(within)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the hub does not end:\n{self.words}") from None
        self._has_ended = True
        self._finish_reading()
        assert found == code, f"exit code {found}, expected {code}:\n{self.words}"
        self.require_no_orphans()

    def require_no_orphans(self) -> None:
        """No executor that was ever seen outlives the hub."""
        pids = self._executor_pids
        eventually(lambda: not any(map(is_alive, pids)), f"the executors {pids} are gone")

    def discard(self) -> None:
        """Whatever happened before: leave nothing behind."""
        pids = self.executor_pids()
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for pid in filter(is_alive, pids | self._executor_pids):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._finish_reading()
        for stream in (self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()
        self._folder.cleanup()

    def _finish_reading(self) -> None:
        """All it has said is in the lists when this returns."""
        for reader in self._readers:
            reader.join(PATIENCE)

    def get(self, path: str, headers: Mapping[str, str] | None = None) -> HttpAnswer:
        """GET over HTTP."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            connection.request("GET", path, headers=dict(headers or {}))
            answer = connection.getresponse()
            return HttpAnswer(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
        finally:
            connection.close()

    def rss(self) -> int:
        """Resident bytes of the hub's own process."""
        return int(psutil.Process(self.process.pid).memory_info().rss)

    def _read(self, stream: IO[str], lines: list[str]) -> None:
        for line in stream:
            with self._said:
                lines.append(line.rstrip("\n"))
                self._said.notify_all()


def is_alive(pid: int) -> bool:
    """Whether a process runs. A zombie does not: whoever adopted it has not looked yet."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def executors_of(hub: int) -> set[int]:
    """The executors of a hub that are alive now: its children, but for the one that may fork them."""
    found = set[int]()
    with suppress(psutil.NoSuchProcess):
        for child in psutil.Process(hub).children():
            with suppress(psutil.NoSuchProcess):
                if child.status() != psutil.STATUS_ZOMBIE and not forks_executors(child):
                    found.add(child.pid)
    return found


def forks_executors(process: psutil.Process) -> bool:
    """Whether a process is the one that forks a hub's executors, and only the tests have."""
    return bool(process.name() == forked_executors.NAME.decode())


@contextmanager
def ready_hub(*methods: str, **options: Any) -> Iterator[RunningHub]:
    """A hub with warm executors, for the length of a ``with`` block."""
    with RunningHub(methods or (DEBUG_METHODS,), **options) as hub:
        yield hub.ready()
