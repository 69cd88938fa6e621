"""The one thread that touches the disk: what is asked of it happens in the order it was asked, and the loop goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class DiskThread:
    """Runs blocking functions, one after the other."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="jobs")

    async def do(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run it behind what was asked before. It runs to its end, even where nobody waits for it any more."""
        future = self._thread.submit(function, *args, **kwargs)
        return await asyncio.wrap_future(future)

    def soon(self, function: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> None:
        """Run it sometime; it has to report errors itself."""
        self._thread.submit(function, *args, **kwargs)

    def stop(self) -> None:
        """Do what was asked for so far, then no more. Blocks."""
        self._thread.shutdown(wait=True)
