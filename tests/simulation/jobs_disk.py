"""The disk of a hub's jobs: the real store in memory, the time that it takes, and what goes wrong with it.

A function runs at one moment, and its caller hears of it a little later: a hub that is killed in between has done what
nobody knows of. What a process that is killed has left is a copy of its folder, as its own store stays open.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import Final, ParamSpec, TypeVar

from typing_extensions import override

from trunkline.jobs.store import JobStore
from trunkline.storage.disk_thread import DiskThread
from trunkline_protocol.errors import ErrorCode, RpcError

P = ParamSpec("P")
T = TypeVar("T")

QUICK: Final = 0.0002, 0.01
"""Bounds of how long a function takes."""

SLOW: Final = 0.05, 0.5
"""The same while the disk is slow."""

HEARD: Final = 0.0001, 0.005
"""Bounds of how long it takes until its caller knows."""


logger = logging.getLogger("trunkline.jobs")


class Disk:
    """The disk that the lives of a hub share.

    Attributes:
        full_until: until then, nothing can be written.
        slow_until: until then, everything takes long.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, seed: int) -> None:
        self.loop = loop
        self.dice = random.Random(f"disk of {seed}")
        self.full_until = self.slow_until = 0.0
        self._memory = tempfile.TemporaryDirectory(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None)
        self._lives = 0
        self._store: SimulatedStore | None = None

    def life(self) -> tuple[JobStore, DiskThread]:
        """Store and thread of the next life of the hub, which finds what the one before has left."""
        root = Path(self._memory.name)
        self._lives += 1
        before, folder = root / str(self._lives - 1), root / str(self._lives)
        if before.is_dir():
            shutil.copytree(before, folder)
        self.close()
        self._store = SimulatedStore(folder, self)
        return self._store, SimulatedDisk(self)

    def close(self) -> None:
        """Let go of what a process that is dead has open."""
        if self._store is not None:
            self._store.close()
            self._store = None

    def remove(self) -> None:
        """Remove everything."""
        self.close()
        self._memory.cleanup()


class SimulatedDisk(DiskThread):
    """In the place of the thread: functions run one after the other, and take their time."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self._free = 0.0

    @override
    async def do(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        heard: asyncio.Future[T] = self._disk.loop.create_future()
        self._plan(partial(function, *args, **kwargs), heard)
        return await heard

    @override
    def soon(self, function: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> None:
        heard: asyncio.Future[object] = self._disk.loop.create_future()
        heard.add_done_callback(_report)
        self._plan(partial(function, *args, **kwargs), heard)

    @override
    async def stop(self) -> None:
        await asyncio.sleep(self._free - self._disk.loop.time())

    def _plan(self, work: Callable[[], T], heard: asyncio.Future[T]) -> None:
        disk, now = self._disk, self._disk.loop.time()
        self._free = max(self._free, now) + disk.dice.uniform(*(SLOW if now < disk.slow_until else QUICK))
        disk.loop.call_at(self._free, self._run, work, heard)

    def _run(self, work: Callable[[], T], heard: asyncio.Future[T]) -> None:
        tell: Callable[[], None]
        try:
            tell = partial(heard.set_result, work())
        except RpcError as error:
            tell = partial(heard.set_exception, error)
        self._disk.loop.call_later(self._disk.dice.uniform(*HEARD), self._tell, heard, tell)

    def _tell(self, heard: asyncio.Future[T], tell: Callable[[], None]) -> None:
        if not heard.done():
            tell()


class SimulatedStore(JobStore):
    """The real one, but that the disk may be full: from the beginning of a transaction on, or at its end."""

    def __init__(self, folder: Path, disk: Disk) -> None:
        super().__init__(folder)
        self._disk = disk

    @override
    def _writing(self, what: str, *, durable: bool = True) -> AbstractContextManager[sqlite3.Connection]:
        return self._perhaps(super()._writing(what, durable=durable), what)

    @contextmanager
    def _perhaps(self, writing: AbstractContextManager[sqlite3.Connection], what: str) -> Iterator[sqlite3.Connection]:
        is_full = self._disk.loop.time() < self._disk.full_until
        full = RpcError(ErrorCode.INSUFFICIENT_RESOURCES, f"{what}: the disk is full", retry_after_ms=1000)
        if is_full and self._disk.dice.random() < 0.5:
            raise full
        with writing as transaction:
            yield transaction
            if is_full:
                raise full


def _report(heard: asyncio.Future[object]) -> None:
    if not heard.cancelled() and (error := heard.exception()) is not None:
        logger.error("a write to the jobs folder failed: %s", error)
