"""What is done with the files of open collections beside: index files are written, rows are looked through."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

from trunkline import ErrorCode, RpcError
from trunkline.background import start_task
from trunkline.methods.vectors.collection import Collection
from trunkline.methods.vectors.derived_file import GivenUp
from trunkline.methods.vectors.kept_index import Taken, Writing
from trunkline.methods.vectors.row_check import RowCheck
from trunkline.methods.vectors.touched import Unusable

logger: Final = logging.getLogger("trunkline.vectors")

InThread = Callable[..., Awaitable[Any]]
"""Has a function called on the thread of the collections."""


class FileKeeper:
    """Writes the index files of collections, and looks through rows: each for one collection at a time."""

    def __init__(self) -> None:
        self._writings: dict[Collection, Writing | None] = {}
        self._checks: dict[Collection, RowCheck] = {}
        self._one_writing, self._one_check = asyncio.Lock(), asyncio.Lock()

    def check_if_due(self, collection: Collection, in_thread: InThread) -> None:
        """Begin to look through the rows of a collection, where nothing has since it was opened."""
        if not collection.closed and (check := collection.row_check()) is not None:
            self._checks[collection] = check
            task = start_task(self._check(collection, check, in_thread), "row check")
            task.add_done_callback(lambda _: self._checks.pop(collection, None))

    def write_if_due(self, collection: Collection, in_thread: InThread) -> None:
        """Begin to write a collection's index file, if it is due."""
        if collection not in self._writings and not collection.closed and collection.kept.due:
            self._writings[collection] = None
            task = start_task(self._write(collection, in_thread), "index file")
            task.add_done_callback(functools.partial(self._written, collection, in_thread))

    def _written(self, collection: Collection, in_thread: InThread, task: asyncio.Task[None]) -> None:
        del self._writings[collection]
        if not task.cancelled() and task.exception() is None:
            self.write_if_due(collection, in_thread)  # so much may have changed meanwhile

    def give_up(self, collection: Collection) -> None:
        """End what is done for a collection soon: it is being closed."""
        if (writing := self._writings.get(collection)) is not None:
            writing.abandoned = True
        if (check := self._checks.get(collection)) is not None:
            check.give_up()

    async def _write(self, collection: Collection, in_thread: InThread) -> None:
        loop = asyncio.get_running_loop()
        async with self._one_writing:
            writing: Writing | None = await in_thread(collection.begin_index)
            if writing is None:
                return
            self._writings[collection] = writing

            def take() -> Taken | None:
                taken: Taken | None = asyncio.run_coroutine_threadsafe(_awaited(in_thread, writing), loop).result()
                return taken

            try:
                await asyncio.to_thread(writing.write, take)
                former: Path | None = await in_thread(collection.adopt, writing)
            except (GivenUp, Unusable, OSError, RpcError) as error:
                await in_thread(collection.kept.fail, writing, error)
                return
            if former is not None:
                with contextlib.suppress(OSError):
                    await asyncio.to_thread(former.unlink)

    async def _check(self, collection: Collection, check: RowCheck, in_thread: InThread) -> None:
        async with self._one_check:
            try:
                await asyncio.to_thread(check.run)
            except RpcError as error:
                if error.code != ErrorCode.PIPELINE_INITIALIZATION_FAILED:
                    logger.warning("%s", error)
                elif await in_thread(collection.refuse):
                    about = {"collection": collection.manifest.name, "reason": error.message}
                    logger.warning("a collection that is in use is damaged: it is closed", extra=about)


async def _awaited(in_thread: InThread, writing: Writing) -> Taken | None:
    taken: Taken | None = await in_thread(writing.take)
    return taken
