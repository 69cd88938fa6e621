"""Replaces executors that have grown beyond the memory of their group or have run their share of calls, or kills them.

The memory of an executor is that of its process and of all that this has started.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from trunkline.background import keep_up, start_task
from trunkline.executors.crew import Crew
from trunkline.executors.endings import RestartCause
from trunkline.executors.handle import ExecutorHandle
from trunkline.executors.process_memory import memory_of
from trunkline.executors.specs import GroupSpec
from trunkline_protocol.errors import RpcError

LOOK_SECONDS: Final = 0.5
PAUSE_SECONDS: Final = 60.0
"""Seconds between replacements of one executor for its memory, or after one that failed: a new process may be too large
from the start."""

JITTER: Final = 0.2
"""The part of ``max_requests`` by which an executor may be replaced earlier, so that not all are at once."""

logger = logging.getLogger("trunkline.executors")


class ProcessLimits:
    """Watches the processes of the groups that have limits.

    Args:
        crew: all processes.
        groups: their limits.
        replace: replaces the executor of a name by a new process without a dropped call.
    """

    def __init__(self, crew: Crew, groups: Sequence[GroupSpec], replace: Callable[[str], Awaitable[object]]) -> None:
        self._crew = crew
        self._limits = {group.name: group for group in groups}
        own = [group for group in groups if not group.executor.in_process]  # what it has is the hub's else
        self._watched = any(group.memory_soft or group.memory_hard or group.max_requests for group in own)
        self._replace = replace
        self._shares: dict[int, int] = {}
        self._replacing: set[int] = set()
        self._not_before: dict[int, float] = {}
        self._watch: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to watch, if any group has a limit."""
        if self._watched:
            self._watch = keep_up(self._look_forever, "process-limits")

    def stop(self) -> None:
        """Watch no more."""
        if self._watch is not None:
            self._watch.cancel()

    async def _look_forever(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            self.look(time.monotonic())

    def look(self, now: float) -> None:
        """Kill the processes that are far too large, and replace those that are too large or have served long."""
        for handle in list(self._crew.processes):
            if handle.pid is None or handle.state not in ("ready", "stopping"):
                continue
            limits = self._limits[handle.group]
            limit = limits.memory_soft or limits.memory_hard
            used, children = memory_of(handle.pid, limit) if limit else (0, 0)
            size = f"{used >> 20} MiB" + (f" with its {children} child processes" if children else "")
            if limits.memory_hard and used > limits.memory_hard:
                handle.exhausted = f"it used {size}, more than groups.{limits.name}.memory_hard"
                self._crew.kill(handle, handle.exhausted)
            elif handle.state == "ready" and handle is self._crew.executors[handle.index]:
                if limits.memory_soft and used > limits.memory_soft:
                    words = f"it uses {size}, more than groups.{limits.name}.memory_soft"
                    self._begin(handle, "memory_soft", words, now)
                elif limits.max_requests and handle.finished_calls >= self._share(handle, limits.max_requests):
                    self._begin(handle, "max_requests", f"it has run groups.{limits.name}.max_requests calls", now)

    def _share(self, handle: ExecutorHandle, calls: int) -> int:
        """The count of an executor's calls at which its present process has run enough."""
        assert handle.pid is not None
        if handle.pid not in self._shares:
            live = self._crew.pids
            self._shares = {pid: share for pid, share in self._shares.items() if pid in live}
            early = random.uniform(0.0, JITTER)  # noqa: S311  # nothing secret
            self._shares[handle.pid] = handle.finished_calls + max(1, round(calls * (1.0 - early)))
        return self._shares[handle.pid]

    def _begin(self, handle: ExecutorHandle, cause: RestartCause, words: str, now: float) -> None:
        if handle.index not in self._replacing and now >= self._not_before.get(handle.index, 0.0):
            self._replacing.add(handle.index)
            logger.warning("replacing %s: %s", handle.name, words)
            start_task(self._replaced(handle, cause), f"{handle.name} is replaced")

    async def _replaced(self, handle: ExecutorHandle, cause: RestartCause) -> None:
        pause = PAUSE_SECONDS if cause == "memory_soft" else 0.0
        try:
            await self._replace(handle.name)
            self._crew.executors[handle.index].restart_causes[cause] += 1
        except RpcError as error:
            pause = PAUSE_SECONDS
            logger.warning("%s was not replaced: %s", handle.name, error.message)
        finally:
            self._replacing.discard(handle.index)
            self._not_before[handle.index] = time.monotonic() + pause
