"""The one thread that touches the disk: functions run in the order they were submitted, off the event loop."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

logger = logging.getLogger("trunkline.storage")


class DiskThread:
    """Runs blocking functions, one after the other.

    Args:
        name: of the thread.
    """

    def __init__(self, name: str) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)

    async def do(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a function behind those submitted before. It runs to its end, even where the caller is cancelled."""
        future = self._thread.submit(function, *args, **kwargs)
        return await asyncio.wrap_future(future)

    def soon(self, function: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> None:
        """Run a function without waiting for it. It has to report expected errors itself; the others are logged."""
        self._thread.submit(function, *args, **kwargs).add_done_callback(_report)

    async def stop(self) -> None:
        """Run what was submitted so far, then end the thread."""
        await asyncio.to_thread(self._thread.shutdown)


def _report(future: Future[object]) -> None:
    if not future.cancelled() and (error := future.exception()) is not None:
        logger.error("a write to the disk failed", exc_info=error)
