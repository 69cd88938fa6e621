"""The executors of a pool with their supervisors: those that get traffic, and processes that come before or after."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence

from trunkline.executors.handle import NOWHERE, ExecutorHandle, FrameHandler
from trunkline.executors.in_process import InProcess
from trunkline.executors.specs import GroupSpec
from trunkline.executors.supervisor import Supervisor


class Crew:
    """The processes of a pool.

    Args:
        groups: how many executors there are, and how they are started.
        callbacks: of the hub's side of each executor: ``frames`` and ``on_lost`` of :class:`ExecutorHandle`.
        on_exit: called with handle and cause when a process has ended.

    Attributes:
        executors: those that get traffic, by index.
        processes: those, and the ones that were replaced and end their calls.
    """

    def __init__(
        self,
        groups: Sequence[GroupSpec],
        callbacks: tuple[Mapping[int, FrameHandler], Callable[[ExecutorHandle], None]],
        on_exit: Callable[[ExecutorHandle, str], None],
    ) -> None:
        self._seats = [(group, number) for group in groups for number in range(group.size)]
        self._callbacks = callbacks
        self._on_exit = on_exit
        self.executors = [self._handle(index) for index in range(len(self._seats))]
        self.processes = list(self.executors)
        self._supervisors = {handle: self._supervisor(handle) for handle in self.executors}

    def _handle(self, index: int) -> ExecutorHandle:
        group, number = self._seats[index]
        return ExecutorHandle(index, *self._callbacks, group.executor.max_concurrency, group.name, number)

    def _supervisor(self, handle: ExecutorHandle, *, restarts: bool = True) -> Supervisor:
        spec = self._seats[handle.index][0].executor
        kind = InProcess if spec.in_process else Supervisor
        return kind(handle, spec, self._on_exit, restarts=restarts)

    def start(self) -> None:
        """Start all executors."""
        for supervisor in self._supervisors.values():
            supervisor.start()

    async def stop(self, grace: float) -> None:
        """Stop all processes, killing them after ``grace`` seconds."""
        await asyncio.gather(*(supervisor.stop(grace) for supervisor in self._supervisors.values()))

    def spawn(self, index: int) -> ExecutorHandle:
        """Start one more process for an executor's index, which gets no traffic yet, and is not started again."""
        handle = self._handle(index)
        handle.place, handle.queues = NOWHERE, ()
        supervisor = self._supervisors[handle] = self._supervisor(handle, restarts=False)
        supervisor.start()
        return handle

    def swap(self, old: ExecutorHandle, new: ExecutorHandle) -> None:
        """Put one process in the place of another, and keep it running from now on; the other is not started again."""
        self._supervisors[old].restarts, self._supervisors[new].restarts = False, True
        new.inherit(old)
        self.executors[old.index] = new
        self.processes.append(new)
        if new.state == "down":
            self._supervisors[new].start()

    @property
    def pids(self) -> set[int | None]:
        """The ids of all processes."""
        return {handle.pid for handle in self._supervisors}

    def served(self) -> set[str]:
        """The names of the methods that executors serve."""
        catalogues = [handle.catalogue for handle in self.executors if handle.catalogue is not None]
        return {info.name for catalogue in catalogues for info in catalogue.methods}

    def kill(self, handle: ExecutorHandle, reason: str) -> None:
        """Kill a process; the reason is logged."""
        if (supervisor := self._supervisors.get(handle)) is not None:
            supervisor.kill(reason)

    async def end(self, handle: ExecutorHandle, grace: float) -> None:
        """Have a process exit that runs nothing any more, and kill it after ``grace`` seconds.

        It is forgotten if another is in its place.
        """
        await self._supervisors[handle].stop(grace)
        current = self.executors[handle.index]
        if current is handle:
            return
        del self._supervisors[handle]
        if handle in self.processes:
            self.processes.remove(handle)
            current.inherit(handle)
