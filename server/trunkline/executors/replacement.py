"""Replaces executors' processes without a dropped call: the new one is ready first, then traffic moves.

==========  ==================================  =====================================  ==============================
phase       the old process                     the new process                        goes on with
==========  ==================================  =====================================  ==============================
starting    serves everything                   loads                                  READY; else it ends: kept
moving      ends its calls, and serves the      serves all else                        its slots are handed over
            routing keys it still owns
finishing   ends its calls                      serves everything                      its last call is over
closing     runs ``close`` and ``atexit``       serves everything                      its end
kept        serves everything, as before        has ended; the cause is told           the next order
==========  ==================================  =====================================  ==============================

Calls end by their own deadlines, and are never cut before. A stream has none as long as it goes on: it may for
``finish_seconds``. Where there is no memory for two processes the old one goes first, with the same care: what it would
serve goes to other executors, or waits in the queue until the new one is ready.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, Literal

from trunkline import defaults
from trunkline.background import start_task
from trunkline.executors.crew import Crew
from trunkline.executors.handle import ExecutorHandle
from trunkline.executors.handover import KeyOwners
from trunkline.executors.room import has_room_for_another
from trunkline_protocol.catalogue import pack_of
from trunkline_protocol.errors import ErrorCode, RpcError
from trunkline_protocol.reports import Drained, Reloaded

CLOSE_GRACE: Final = 7.0
"""Seconds for a process that runs no calls to close what it holds, by itself limited to five, and to end."""

Order = Literal["auto", "new_first", "old_first"]
"""Which process goes first where one is replaced; ``auto``: the new one, where there is memory for both."""

logger = logging.getLogger("trunkline.executors")


@dataclass(frozen=True, slots=True)
class ReplacementLimits:
    """The settings ``finish_seconds`` and ``replace``.

    Attributes:
        finish_seconds: how long streams may go on in a process that was replaced.
        order: which process goes first.
    """

    finish_seconds: float = defaults.FINISH_SECONDS
    order: Order = "auto"


class Replacements:
    """Carries out orders to replace executors, one after the other.

    Args:
        crew: starts and ends processes.
        owners: moves routing keys.
        on_swap: called with a process that was replaced, and the new one, to move the traffic.
        on_change: called when a replacement has failed, or was done after one had.

    Attributes:
        failures: by executor's index, why its last replacement failed, in words.
    """

    def __init__(
        self,
        crew: Crew,
        owners: KeyOwners,
        limits: ReplacementLimits,
        on_swap: Callable[[ExecutorHandle, ExecutorHandle], None],
        on_change: Callable[[], None],
    ) -> None:
        self._crew = crew
        self._on_swap = on_swap
        self._owners = owners
        self._limits = limits
        self._on_change = on_change
        self._one = asyncio.Lock()
        self._starting: dict[ExecutorHandle, asyncio.Future[str | None]] = {}
        self._finishing: set[asyncio.Task[None]] = set()
        self._waiting: dict[str | None, asyncio.Task[Reloaded]] = {}
        self.failures: dict[int, str] = {}

    # --- news of processes, from the pool ---

    def ready(self, handle: ExecutorHandle) -> bool:
        """Note READY; returns whether it comes of a process that is to get traffic only when this module says so."""
        return self._settle(handle, None)

    def ended(self, handle: ExecutorHandle, cause: str) -> bool:
        """Note that a process has ended; returns whether it was a successor that never got traffic."""
        return self._settle(handle, handle.load_failure or cause)

    def _settle(self, handle: ExecutorHandle, outcome: str | None) -> bool:
        future = self._starting.get(handle)
        if future is not None and not future.done():
            future.set_result(outcome)
        return future is not None

    def stop(self) -> None:
        """Give all replacements up: the hub stops."""
        for task in self._finishing:
            task.cancel()
        for handle in self._starting:
            self._settle(handle, "the hub is stopping")

    # --- orders ---

    async def drain(self, worker_id: str) -> Drained:
        """Replace one executor's process; returns when the new one serves in its place.

        Raises:
            RpcError: -32602, no such executor; else why the new one cannot serve: then the old one goes on.
        """
        index = self._owners.named(worker_id).index
        async with self._one:
            return await self._replace(self._crew.executors[index])

    async def reload(self, group: str | None = None) -> Reloaded:
        """Replace all executors, or those of a group, one after the other; returns when the new ones serve.

        Whoever asks while one waits for its turn gets the outcome of that one.

        Raises:
            RpcError: -32602, no such group; the first that cannot be replaced ends it, as in :meth:`drain`.
        """
        groups = sorted({handle.group for handle in self._crew.executors})
        if group is not None and group not in groups:
            words = f"group: no group {group!r:.100}; there are: {', '.join(groups) or 'none'}"
            raise RpcError(ErrorCode.INVALID_PARAMS, words)
        if group not in self._waiting:
            self._waiting[group] = start_task(self._replace_all(group), "reload", expected=RpcError)
        return await asyncio.shield(self._waiting[group])

    async def _replace_all(self, group: str | None) -> Reloaded:
        async with self._one:
            del self._waiting[group]
            before = self._crew.served()
            executors = [handle for handle in self._crew.executors if group in (None, handle.group)]
            done = [await self._replace(handle) for handle in executors]
            after = self._crew.served()
            failed = {failure.words for handle in self._crew.executors for failure in handle.failed_modules}
            return Reloaded(done, len(after), sorted(after - before), sorted(before - after), sorted(failed))

    async def changed_sources(self) -> dict[str, int]:
        """The files that have changed since an executor loaded its code from them, with their times of change."""
        loaded = [pair for handle in self._crew.executors for pair in handle.sources.items()]
        return await asyncio.to_thread(_changed, set(loaded))

    async def _replace(self, old: ExecutorHandle) -> Drained:
        began = time.monotonic()
        places = {each.place for each in self._crew.processes if each.index == old.index}
        slots = sum(owner in places for owner in self._owners.table.owners)
        order = self._limits.order
        new_first = has_room_for_another(old.pid) if order == "auto" else order == "new_first"
        new = await (self._new_first(old) if new_first else self._old_first(old))
        if self.failures.pop(old.index, None):
            self._on_change()
        seconds = round(time.monotonic() - began, 3)
        logger.info("executor replaced", extra={"executor": old.name, "pid": new.pid, "seconds": seconds})
        return Drained(new.name, slots, new.pid or 0)

    # --- the new process first ---

    async def _new_first(self, old: ExecutorHandle) -> ExecutorHandle:
        new = self._crew.spawn(old.index)
        cause = await self._outcome(new)
        missing = [each for each in new.failed_modules if _serves(old, each.module)]
        if cause is not None or missing:
            await self._crew.end(new, 0.0)
            words = cause or "; ".join(each.words for each in missing)
            raise self._kept(old, new, f"{old.name} goes on as it was, for its replacement cannot serve: {words}")
        async with self._owners.one:
            if new.state != "ready":
                raise self._kept(old, new, f"{old.name} goes on as it was, for its replacement has just ended")
            old = self._crew.executors[old.index]
            served = old.state == "ready"
            self._crew.swap(old, new)
            self._on_swap(old, new)
        self._finishing.add(task := start_task(self._finish(old, new.place, served=served), f"{old.name} finishes"))
        task.add_done_callback(self._finishing.discard)
        return new

    async def _outcome(self, new: ExecutorHandle) -> str | None:
        """Wait until a new process is ready: None; or until it has ended: the cause."""
        future: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()
        self._starting[new] = future
        try:
            return await future
        finally:
            del self._starting[new]

    def _kept(self, old: ExecutorHandle, new: ExecutorHandle, words: str) -> RpcError:
        self.failures[old.index] = words
        old.sources = new.sources | old.sources  # a file that is new is one of those that have to be repaired
        logger.error("%s", words)
        self._on_change()
        return _error(new, words)

    async def _finish(self, old: ExecutorHandle, successor: int, *, served: bool) -> None:
        """Let a process that was replaced end its calls, and then itself."""
        if served:
            end = time.monotonic() + self._limits.finish_seconds
            await self._owners.hand_over_all(old, successor, end)
            await self._run_out(old, end)
        await self._crew.end(old, CLOSE_GRACE)
        self._on_change()

    async def _run_out(self, old: ExecutorHandle, end: float) -> None:
        """Wait until a process that owns no routing keys any more runs no call; streams are ended at ``end``."""
        if old.state == "ready":
            old.state = "stopping"
        while old.state == "stopping" and old.in_flight:
            left = end - time.monotonic()
            if left <= 0:
                self._owners.end_streams(old, self._limits.finish_seconds)
            old.idle = asyncio.Event()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(old.idle.wait(), left if left > 0 else None)

    # --- the old process first ---

    async def _old_first(self, old: ExecutorHandle) -> ExecutorHandle:
        logger.warning("%s is replaced, its old process first: there is no memory for two, or not wanted", old.name)
        end = time.monotonic() + self._limits.finish_seconds
        if old.state == "ready":
            await self._owners.vacate(old, end)
            await self._run_out(old, end)
        await self._crew.end(old, CLOSE_GRACE)
        new = self._crew.spawn(old.index)
        cause = await self._outcome(new)
        self._crew.swap(old, new)
        self._on_swap(old, new)
        await self._crew.end(old, 0.0)
        if cause is not None:
            words = f"{old.name} was ended, and its replacement cannot serve: {cause}; it is started again and again"
            raise _error(new, words)
        return new


def _changed(loaded: Iterable[tuple[str, int]]) -> dict[str, int]:
    changed = {}
    for file, before in loaded:
        with contextlib.suppress(OSError):  # while an editor replaces it there is none
            if (now := os.stat(file).st_mtime_ns) != before:
                changed[file] = now
    return changed


def _serves(handle: ExecutorHandle, module: str) -> bool:
    catalogue = handle.catalogue
    return catalogue is not None and any(info.pack == pack_of(module) for info in catalogue.methods)


def _error(new: ExecutorHandle, words: str) -> RpcError:
    """The error of an order, with the code of the module that failed; the cause may pass if it is not the code's."""
    if new.failed_modules:
        return RpcError(new.failed_modules[0].code, words)
    return RpcError(ErrorCode.WORKER_UNAVAILABLE, words, retry_after_ms=1000)
