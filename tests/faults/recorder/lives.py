"""A hub that is killed, stopped and started again, always on the same port."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import socket
from contextlib import suppress
from pathlib import Path
from typing import Final

import psutil

from tests.support.hub import MODULES, RunningHub, is_alive
from tests.support.timing import PATIENCE, eventually

EXECUTORS: Final = 2
DRAIN_SECONDS: Final = 0.5
KILL_AFTER: Final = 1.0
"""Seconds that a method may go on after its deadline before its executor is killed."""

MEMORY: Final = {"memory_soft": "120MiB", "memory_hard": "400MiB"}
"""What ``misdeeds.bloats`` exceeds."""

SESSION_SECONDS: Final = 60.0
"""Longer than any cut."""

BELOW_EPHEMERAL: Final = (20_000, 32_000)
"""Ports that no outgoing connection gets by chance: while the hub is away, its port has to stay free."""


class HubLives:
    """The hub of a run, one life after the other.

    Args:
        ledger: where its executors write down what they begin.
        logs: folder for what the hubs said.
        session_seconds: how long a session outlives its connection.

    Attributes:
        life: the present one, from 1.
        url: of the hub, in all its lives.
    """

    def __init__(self, ledger: Path, logs: Path, session_seconds: float = SESSION_SECONDS) -> None:
        self._ledger = ledger
        self._session_seconds = session_seconds
        self._logs = logs
        self._hub: RunningHub | None = None
        self.life = 0
        self.port = free_port()
        self.url = f"ws://127.0.0.1:{self.port}/ws"
        self.lock = asyncio.Lock()
        """Held while its state is changed: one fault of the hub at a time."""

    async def start(self) -> None:
        """Begin the next life; returns when it listens and its executors are warm."""
        await asyncio.to_thread(self._start)

    def _start(self) -> None:
        self.life += 1
        env = {
            "RECORDER_LEDGER": str(self._ledger),
            "RECORDER_LIFE": str(self.life),
            "TRUNKLINE_DRAIN_SECONDS": str(DRAIN_SECONDS),
            "TRUNKLINE_CLOSE_SECONDS": "0.2",
            "TRUNKLINE_SESSION_SECONDS": str(self._session_seconds),
            "TRUNKLINE_KILL_AFTER": str(KILL_AFTER),
            "TRUNKLINE_GROUPS": json.dumps({"default": MEMORY}),
        }
        arguments = ["--port", str(self.port)]
        hub = RunningHub(("recorded", "misdeeds"), cwd=MODULES, executors=EXECUTORS, env=env, arguments=arguments)
        self._hub = hub.__enter__().ready()

    async def kill(self) -> None:
        """SIGKILL, and the next life."""
        await asyncio.to_thread(self._kill)
        await self.start()

    def _kill(self) -> None:
        hub = self._running()
        hub.process.kill()
        hub.process.wait(PATIENCE)
        eventually(lambda: not self._executors(), "executors end with their hub, those as well that were just started")
        self._discard()

    def _executors(self) -> list[int]:
        """All executors of this run that are alive, whoever their parent is now."""
        return [process.pid for process in psutil.process_iter() if self._is_ours(process)]

    def _is_ours(self, process: psutil.Process) -> bool:
        try:
            return process.environ().get("RECORDER_LEDGER") == str(self._ledger) and is_alive(process.pid)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            return False

    async def stop(self) -> None:
        """SIGTERM, and the next life."""
        await self.end()
        await self.start()

    async def end(self) -> None:
        """SIGTERM: it has to end well, without leaving executors."""
        await asyncio.to_thread(self._end)

    def _end(self) -> None:
        if self._hub is not None:
            try:
                self._hub.stop()
                eventually(lambda: not self._executors(), "executors end with their hub, and what they have started")
            finally:
                self._discard()

    def discard(self) -> None:
        """Whatever happened: leave nothing behind."""
        if self._hub is not None:
            self._discard()

    def _discard(self) -> None:
        hub = self._running()
        self._hub = None
        hub.discard()
        (self._logs / f"hub-{self.life}.log").write_text("\n".join([*hub.stdout, *hub.stderr]) + "\n")

    async def kill_executors(self, choice: int, count: int) -> None:
        """SIGKILL to some of the executors, when all are there."""
        await asyncio.to_thread(self._kill_executors, choice % EXECUTORS, count)

    def _kill_executors(self, choice: int, count: int) -> None:
        hub = self._running()
        # One that was replaced may stay for a while, with a call that does not end: it is the older of them.
        eventually(lambda: len(hub.executor_pids()) >= EXECUTORS, "all executors are there")
        pids = sorted(hub.executor_pids())[-EXECUTORS:][choice : choice + count]
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        eventually(lambda: not any(map(is_alive, pids)), f"the executors {pids} are gone")

    def _running(self) -> RunningHub:
        assert self._hub is not None, "the hub is between two lives"
        return self._hub


def free_port() -> int:
    """A port that will stay free while nobody listens on it."""
    while True:
        port = random.SystemRandom().randrange(*BELOW_EPHEMERAL)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
