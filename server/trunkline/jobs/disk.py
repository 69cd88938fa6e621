"""The one thread that touches the disk: what is asked of it happens in the order it was asked, and the loop goes on."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

logger = logging.getLogger("trunkline.jobs")


class DiskThread:
    """Runs blocking functions, one after the other."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="jobs")

    async def do(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run it behind what was asked before. It runs to its end, even where nobody waits for it any more."""
        future = self._thread.submit(function, *args, **kwargs)
        return await asyncio.wrap_future(future)

    def soon(self, function: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> None:
        """Run it sometime. Errors that can be expected it has to report itself; the others are logged."""
        self._thread.submit(function, *args, **kwargs).add_done_callback(_report)

    def stop(self) -> None:
        """Do what was asked for so far, then no more. Blocks."""
        self._thread.shutdown(wait=True)


def _report(future: Future[object]) -> None:
    if not future.cancelled() and (error := future.exception()) is not None:
        logger.error("what nobody waits for could not be written", exc_info=error)
