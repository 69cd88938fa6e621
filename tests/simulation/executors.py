"""Executors without processes: the real ones at both ends of a wire that takes its time, and that can be killed."""

from __future__ import annotations

import asyncio
import random
import signal
from collections.abc import Callable
from typing import Final

import msgspec
from typing_extensions import override

from tests.faults.recorder.history import Execution, Sink
from tests.simulation.loop import Process
from tests.simulation.network import Message, Trace, Way
from tests.support.modules import recorded
from trunkline.executors import ipc
from trunkline.executors.crew import Crew
from trunkline.executors.endings import RestartCause, why_ended
from trunkline.executors.handle import ExecutorHandle
from trunkline.executors.pool import ExecutorPool
from trunkline.executors.process import Executor
from trunkline.executors.supervisor import Supervisor
from trunkline.methods.registry import Registry

START_SECONDS: Final = 0.02, 0.2
"""Bounds of how long an executor takes to load its methods."""

WIRE_LATENCY: Final = 0.00005, 0.002
"""Bounds of how long a frame is on its way."""

NO_PIDS: Final = 10_000_000
"""Numbers from here on are those of no process of this machine."""

FRAMES: Final = 2
"""Opcode of what is written to a wire: any number of frames."""

_registry: Final = Registry()
_registry.add_module(recorded)
_READY: Final = ipc.frame(ipc.READY, 0, msgspec.json.encode(_registry.catalogue()))


class Machine:
    """What all executors of a run share.

    Args:
        ledger: where they write down what they begin.

    Attributes:
        life: of the hub that they belong to.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, trace: Trace, dice: random.Random, ledger: Sink) -> None:
        self.loop = loop
        self.trace = trace
        self.dice = dice
        self.life = 0
        self._ledger = ledger
        self._pids = NO_PIDS

    def next_pid(self) -> int:
        """The number of the next process."""
        self._pids += 1
        return self._pids

    def executed(self, work: str, life: int, by: str) -> None:
        """A work has begun."""
        self._ledger.write(Execution(self.loop.time(), work, life, by))


class _Wire(asyncio.Transport):
    """One end of a wire, as asyncio's protocols know it."""

    def __init__(self, way: Way) -> None:
        super().__init__()
        self._way = way
        self.closed: Callable[[], None] = _nothing

    @override
    def write(self, data: bytes | bytearray | memoryview) -> None:
        self._way.write(Message(FRAMES, bytes(data)))

    @override
    def close(self) -> None:
        self.closed()

    abort = close


class ExecutorProcess(Process):
    """One process of an executor, from its start to its end.

    Args:
        hub: the process of the hub that started it.

    Attributes:
        ended: its exit code, when it has ended.
    """

    def __init__(self, machine: Machine, hub: Process, handle: ExecutorHandle, pid: int, max_concurrency: int) -> None:
        super().__init__(machine.loop, f"{handle.name}/{pid}")  # type: ignore[arg-type]  # the one loop that there is
        self.ended: asyncio.Future[int] = machine.loop.create_future()
        self._hub = hub
        self._handle = handle
        self._max_concurrency = max_concurrency
        life = machine.life
        self.context.run(recorded.WRITER.set, lambda work: machine.executed(work, life, self.name))
        self._to_executor = Way(
            machine.trace, f"{self.name} >", machine.dice, (hub, self), self._received, _nothing, WIRE_LATENCY
        )
        self._to_hub = Way(
            machine.trace, f"{self.name} <", machine.dice, (self, hub), self._told, _nothing, WIRE_LATENCY
        )
        self._executor: Executor | None = None
        handle.connection_made(_Wire(self._to_executor))
        machine.loop.call_later(machine.dice.uniform(*START_SECONDS), self.soon, self._load, context=self.context)

    def _load(self) -> None:
        handle = self._handle
        executor = self._executor = Executor(
            _registry, handle.name, handle.group, max_concurrency=self._max_concurrency, debug=False
        )
        executor.wire.connection_made(_Wire(self._to_hub))
        executor.wire.send(_READY)
        self.begin(self._serve(executor))

    async def _serve(self, executor: Executor) -> None:
        """As :func:`trunkline.executors.process.serve` ends."""
        await executor.stopped.wait()
        await executor.runner.finish()
        executor.wire.flush()
        self._exit(0)

    def _received(self, message: Message) -> None:
        if self._executor is not None:
            self._executor.wire.data_received(message.payload)
        elif ipc.frame(ipc.STOP) in message.payload:
            self._exit(0)

    def _told(self, message: Message) -> None:
        if message.payload:
            self._handle.data_received(message.payload)
        else:
            self._handle.connection_lost(None)

    def _exit(self, code: int) -> None:
        if not self.ended.done():
            self._to_hub.write(Message(FRAMES, b""))  # the end of the wire, after all that it has said
            self._to_executor.cut()
            self.ended.set_result(code)

    @override
    def kill(self) -> None:
        """As by SIGKILL: what it has written still arrives at the hub, and nothing else happens."""
        self._exit(-signal.SIGKILL)
        super().kill()


class SimulatedSupervisor(Supervisor):
    """Keeps a simulated executor running.

    Attributes:
        process: the present one, while there is one.
    """

    machine: Machine
    hub: Process
    process: ExecutorProcess | None = None

    @override
    async def _run_once(self) -> tuple[RestartCause, str]:
        handle = self._handle
        self._begin()
        handle.pid = self.machine.next_pid()
        self._kill_reason = None
        lost = asyncio.Event()
        handle.on_wire_lost = lost.set
        process = self.process = ExecutorProcess(self.machine, self.hub, handle, handle.pid, self._spec.max_concurrency)
        try:
            code = await process.ended
            await lost.wait()
        finally:
            process.kill()
            self.process = None
            handle.pid = None
        return why_ended(code, self._kill_reason, oom_killed=False)

    @override
    def kill(self, reason: str) -> None:
        if self.process is not None:
            self._kill_reason = reason
            self.process.kill()


class SimulatedCrew(Crew):
    """Executors of one hub."""

    @override
    def _supervisor(self, handle: ExecutorHandle, *, restarts: bool = True) -> Supervisor:
        spec = self._seats[handle.index][0].executor
        return SimulatedSupervisor(handle, spec, self._on_exit, restarts=restarts)

    def settle(self, machine: Machine, hub: Process) -> None:
        """Tell the supervisors where they are."""
        for supervisor in self.supervisors:
            supervisor.machine, supervisor.hub = machine, hub

    @property
    def supervisors(self) -> list[SimulatedSupervisor]:
        """All of them."""
        return [each for each in self._supervisors.values() if isinstance(each, SimulatedSupervisor)]

    @property
    def alive(self) -> list[ExecutorProcess]:
        """Processes that run now."""
        return [each.process for each in self.supervisors if each.process is not None]


class SimulatedPool(ExecutorPool):
    """A pool of them."""

    crew_kind = SimulatedCrew


def _nothing() -> None:
    """Nobody wants to know."""
