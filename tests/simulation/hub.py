"""A hub of the simulation: the real parts, as ``hosting`` puts them together, without its sockets and processes."""

from __future__ import annotations

import asyncio
import random
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from typing_extensions import override

from tests.simulation.connection import Connection
from tests.simulation.executors import ExecutorProcess, Machine, SimulatedCrew, SimulatedPool
from tests.simulation.jobs_disk import Disk
from tests.simulation.loop import Process, SimulationLoop
from tests.simulation.network import Trace
from trunkline.config import GivenSettings, Settings
from trunkline.edge.websocket.listener import WebSocketListener
from trunkline.executors.pool import ExecutorPool
from trunkline.executors.queueing import DEFAULT_GROUP
from trunkline.executors.specs import ExecutorSpec, GroupSpec
from trunkline.hosting.app import HubParts
from trunkline.hosting.lifecycle import CLOSE_RESTART, EXECUTOR_ABORT_GRACE, EXECUTOR_STOP_GRACE
from trunkline.hub.callees import KeptMethod
from trunkline.hub.principal import Handshake
from trunkline.jobs.store import JobStore
from trunkline.storage.disk_thread import DiskThread

EXECUTORS: Final = 2
GOODBYE_SECONDS: Final = 2.5
"""Seconds that clients get to answer the close frame of a hub that stops."""

_folder: Final = tempfile.TemporaryDirectory(prefix="trunkline-simulation-")

SETTINGS: Final = GivenSettings(
    executors=0,
    packs=(),
    data=Path(_folder.name),
    max_concurrency=4,
    drain_seconds=0.5,
    kill_after=1.0,
    callee_grace=2.0,
    session_seconds=60.0,
    outbox_event_bytes=1024,
    history_events=8,
    jobs_at_once=2,
)
"""Little room, so that it is used up: few calls at once, few events that wait or are kept."""

SHORT_SESSIONS: Final = SETTINGS.with_changes({"session_seconds": 0.25})
"""The same, where a session may end though its hub lives."""


class _Parts(HubParts):
    """The parts of a hub whose executors are simulated."""

    def __init__(self, settings: Settings, disk: Disk) -> None:
        self._jobs_at = disk
        super().__init__(settings, self._changed)

    def _changed(self) -> None:
        self.monitor.executors_changed()
        self.jobs.wake()

    @override
    def _groups(self, settings: Settings) -> list[GroupSpec]:
        spec = ExecutorSpec((), max_concurrency=settings.max_concurrency, in_process=True)
        return [GroupSpec(DEFAULT_GROUP, spec, EXECUTORS)]

    @override
    def _jobs_disk(self, settings: Settings) -> tuple[JobStore, DiskThread]:
        return self._jobs_at.life()

    @override
    def _pool(self, settings: Settings, kind: type[ExecutorPool] = SimulatedPool) -> ExecutorPool:
        return super()._pool(settings, kind)


class SimulatedHub:
    """One life of a hub.

    Attributes:
        process: the hub's.
        parts: what it consists of, once it has been started.
        connections: those that are open.
        is_listening: whether it takes connections.
    """

    def __init__(
        self,
        loop: SimulationLoop,
        trace: Trace,
        dice: random.Random,
        machine: Machine,
        settings: Settings,
        disk: Disk,
    ) -> None:
        machine.life += 1
        self.process = Process(loop, f"hub {machine.life}")
        self.connections: dict[Connection, None] = {}
        self.is_listening = False
        self.parts: HubParts
        self._settings = settings
        self._disk = disk
        self._machine = machine
        self._loop = loop
        self._trace = trace
        self._dice = dice

    async def start(self, expected: Sequence[KeptMethod]) -> None:
        """Begin to accept connections.

        Args:
            expected: methods that clients served when the hub before this one stopped.
        """
        await self.process.begin(self._start(expected))

    async def _start(self, expected: Sequence[KeptMethod]) -> None:
        parts = self.parts = _Parts(self._settings, self._disk)
        self.crew.settle(self._machine, self.process)
        parts.registrations.expect(expected)
        parts.pool.start()
        parts.jobs.start()
        parts.sampler.start()
        parts.health.start()
        self.is_listening = True

    @property
    def crew(self) -> SimulatedCrew:
        """Its executors."""
        crew = self.parts.pool.crew
        assert isinstance(crew, SimulatedCrew)
        return crew

    @property
    def executors(self) -> list[ExecutorProcess]:
        """Their processes, as far as they run."""
        return self.crew.alive

    def accept(self, client: Process, name: str) -> Connection:
        """Take a connection, as :class:`trunkline.edge.websocket.door.WebSocketDoor` does.

        Raises:
            RpcError: the hub refuses it.
        """
        context = self.parts.context
        context.check_room(name)
        principal = context.admit(Handshake("/ws", name, {"host": "localhost"}))
        listener = WebSocketListener(context, principal, name)
        connection = Connection(
            self._trace, name, self._dice, (client, self.process), listener, lambda it: self.connections.pop(it, None)
        )
        self.connections[connection] = None
        self.process.soon(connection.socket.open)
        return connection

    def kill(self) -> None:
        """End it as by SIGKILL, and its executors with it."""
        self.is_listening = False
        for connection in list(self.connections):
            connection.reset()
        for executor in self.executors:
            executor.kill()
        self.process.kill()

    async def stop(self) -> Sequence[KeptMethod]:
        """Stop as upon SIGTERM. Returns the methods that clients served."""
        served = list(self.parts.registrations.kept())
        await self.process.begin(self._stop())
        self.is_listening = False
        for connection in list(self.connections):
            connection.reset()
        self.process.kill()
        return served

    async def _stop(self) -> None:
        """As :mod:`trunkline.hosting.lifecycle` does it."""
        parts, loop = self.parts, self._loop
        await parts.jobs.stop()
        left = await parts.router.drain(self._settings.drain_seconds)
        await parts.pool.stop(EXECUTOR_ABORT_GRACE if left else EXECUTOR_STOP_GRACE)
        self.is_listening = False
        await parts.context.close_all(CLOSE_RESTART, "the hub is stopping", 0.1)
        deadline = loop.time() + GOODBYE_SECONDS
        while parts.context.listeners and loop.time() < deadline:
            await asyncio.sleep(0.01)
        await parts.jobs.close()
        parts.monitor.stop()
        parts.sampler.stop()
        parts.health.stop()
        parts.sessions.stop()
