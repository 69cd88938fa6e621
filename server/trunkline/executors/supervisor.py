"""Supervises one executor process: spawns it, restarts it with back-off, stops it. It knows nothing of calls."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from trunkline.background import keep_up
from trunkline.executors.endings import OomCounter, RestartCause, why_ended
from trunkline.executors.environment import executor_environment
from trunkline.executors.handle import ExecutorHandle
from trunkline.executors.ipc import STOP, Configuration, frame
from trunkline.executors.output import OutputReader
from trunkline.executors.specs import ExecutorSpec

BACKOFF_FIRST: Final = 0.2
BACKOFF_LIMIT: Final = 30.0
MAX_DOUBLINGS: Final = 16
"""Enough doublings to reach the limit, and few enough for a float."""

LAST_WORDS_SECONDS: Final = 0.25
STABLE_AFTER: Final = 30.0
"""Seconds of being ready after which the next failure begins with the first back-off again."""

WIRELESS_SECONDS: Final = 2.0
"""Seconds that a process may live on without its wire: its slots go to another only once it has ended."""

logger = logging.getLogger("trunkline.executors")


def pause(failures: int) -> float:
    """The back-off in seconds before an executor is restarted, after this many failures in a row (1 or more)."""
    return min(BACKOFF_LIMIT, BACKOFF_FIRST * 2.0 ** min(failures - 1, MAX_DOUBLINGS))


class Supervisor:
    """Keeps one executor process running.

    Args:
        handle: gets the wire of each new process.
        spec: how the process is started.
        on_exit: called with handle and cause when a process has ended, before the next is started.
        restarts: whether another process is started when one has ended; may be changed at any time.
        oom_counter: makes the counter of out-of-memory kills for a process id.
    """

    def __init__(
        self,
        handle: ExecutorHandle,
        spec: ExecutorSpec,
        on_exit: Callable[[ExecutorHandle, str], None],
        oom_counter: Callable[[int], OomCounter] = OomCounter,
        *,
        restarts: bool = True,
    ) -> None:
        self.restarts = restarts
        self._oom_counter = oom_counter
        self._handle = handle
        self._spec = spec
        self._on_exit = on_exit
        self._process: subprocess.Popen[bytes] | None = None
        self._task: asyncio.Task[None] | None = None
        self._stopping = False
        self._failures = 0
        self._was_ready = False
        self._kill_reason: str | None = None

    def start(self) -> None:
        """Start the executor, and keep it running from now on."""
        self._task = keep_up(self._run, f"executor-{self._handle.index}")

    async def stop(self, grace: float) -> None:
        """Ask the executor to finish its calls and exit, and start no other; kill it after ``grace`` seconds."""
        self._stopping = True
        self._handle.state = "stopping"
        self._handle.send(frame(STOP))
        if self._task is None:
            return
        if self._handle.pid is None:
            self._task.cancel()
        _done, late = await asyncio.wait([self._task], timeout=grace)
        if late:
            self.kill("it did not stop in time")
            await asyncio.wait([self._task], timeout=5)

    def kill(self, reason: str) -> None:
        """Send SIGKILL to the whole process group, so that processes that a method started end as well."""
        process = self._process
        if process is not None and process.returncode is None:
            self._kill_reason = reason
            logger.warning("killing %s: %s", self._handle.name, reason)
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)

    async def _run(self) -> None:
        handle = self._handle
        while True:
            kind: RestartCause
            try:
                kind, cause = await self._run_once()
            except Exception as error:
                if not isinstance(error, OSError):
                    logger.exception("%s could not be started", handle.name)
                kind, cause = "not_started", f"it could not be started: {error}"
            self._failures = 1 if self._is_first_failure() else self._failures + 1
            handle.state = "stopping" if self._stopping else "down"
            if not self._stopping:
                handle.failed("load_failed" if handle.load_failure else kind, handle.load_failure or cause)
            self._on_exit(handle, cause)
            if self._stopping or not self.restarts:
                break
            delay = pause(self._failures)
            logger.warning("%s: %s; starting it again in %.1f s", handle.name, handle.last_failure, delay)
            await asyncio.sleep(delay)

    def _is_first_failure(self) -> bool:
        """Whether what made earlier processes fail is over: this one was ready for long, or is the first that was."""
        ready, was_ready = self._handle.ready_since, self._was_ready
        self._was_ready = bool(ready)
        return bool(ready) and (not was_ready or time.monotonic() - ready > STABLE_AFTER)

    async def _run_once(self) -> tuple[RestartCause, str]:
        """Run one process from spawn to exit; returns the cause of its end, as a name and as text."""
        handle, loop = self._handle, asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        printed, printing = os.pipe()
        self._begin()
        try:
            self._process = self._spawn(theirs, printing)
        except BaseException:
            os.close(printed)
            ours.close()
            raise
        finally:
            theirs.close()
            os.close(printing)
        handle.pid = pid = self._process.pid
        oom_kills = self._oom_counter(handle.pid)
        self._kill_reason = None
        output, reader = await loop.connect_read_pipe(
            lambda: OutputReader(handle.speaker), os.fdopen(printed, "rb", buffering=0)
        )
        transport, _ = await loop.create_connection(lambda: handle, sock=ours)
        watchdog = loop.call_later(self._spec.start_timeout, self._kill_if_starting)
        try:
            code = await self._wait_exit(oom_kills)
        finally:
            watchdog.cancel()
            transport.close()
            # What it had started ends with it. What has left its group may hold the pipe; its own output is in there.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, signal.SIGKILL)
            await asyncio.wait([reader.ended], timeout=LAST_WORDS_SECONDS)
            output.close()
            self._process = None
            handle.pid = None
        kind, cause = why_ended(code, self._kill_reason, oom_killed=oom_kills.has_grown())
        return ("memory_hard" if handle.exhausted else kind), cause

    def _begin(self) -> None:
        """Forget the last process."""
        handle = self._handle
        handle.reset()
        handle.state, handle.ready_since, handle.catalogue = "starting", 0.0, None
        handle.load_failure = None

    def _configuration(self, withheld: Sequence[str]) -> Configuration:
        """What an executor is told when it starts."""
        spec = self._spec
        return Configuration(
            self._handle.name,
            self._handle.group,
            spec.modules,
            spec.settings | {"group": self._handle.group, "executor": self._handle.number},
            spec.max_concurrency,
            spec.python_path,
            os.getpid(),
            tuple(withheld),
            dict(spec.rlimits),
        )

    def _spawn(self, wire: socket.socket, printing: int) -> subprocess.Popen[bytes]:
        spec = self._spec
        passed, withheld, _secrets = executor_environment(os.environ, spec.environment)
        threads = str(spec.threads)
        environment = passed | {
            "OMP_NUM_THREADS": threads,
            "MKL_NUM_THREADS": threads,
            "OPENBLAS_NUM_THREADS": threads,
            "TOKENIZERS_PARALLELISM": "false",
            **spec.variables,
        }
        process = subprocess.Popen(  # noqa: S603  # our own interpreter and module
            [spec.python or sys.executable, "-m", "trunkline.executors.process", str(wire.fileno())],
            pass_fds=[wire.fileno()],
            stdout=printing,
            stderr=printing,
            stdin=subprocess.PIPE,  # not the arguments: settings contain secrets, and arguments are public
            env=environment,
            process_group=0,
        )
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError), process.stdin as stdin:
            stdin.write(json.dumps(msgspec.structs.asdict(self._configuration(withheld))).encode())
        return process

    async def _wait_exit(self, oom_kills: OomCounter) -> int:
        process = self._process
        assert process is not None
        loop = asyncio.get_running_loop()
        waiter = loop.create_future()

        def exited() -> None:
            if not waiter.done():
                waiter.set_result(None)

        self._handle.on_wire_lost = exited
        wireless: asyncio.TimerHandle | None = None
        while process.poll() is None:
            # The wire closes when the process dies; polling covers a process that closed it and lives on.
            await asyncio.wait([waiter], timeout=0.5)
            if not waiter.done():
                oom_kills.look()
            if waiter.done() and process.poll() is None:
                if wireless is None:
                    wireless = loop.call_later(
                        WIRELESS_SECONDS, self.kill, "it kept running after it had closed its wire"
                    )
                await asyncio.sleep(0.02)
        if wireless is not None:
            wireless.cancel()
        return process.returncode

    def _kill_if_starting(self) -> None:
        if self._handle.state == "starting":
            self.kill(f"it was not ready after {self._spec.start_timeout:.0f} s")
