"""Tasks that run beside whatever began them. Each has a name, is held until it ends, and never dies without a word.

asyncio holds tasks weakly, and says what one died of when somebody happens to collect the garbage. Everything in the
hub, its executors and the client that begins a task does it here.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import threading
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeVar

PAUSE_SECONDS: Final = 1.0
"""Until what must not end is begun again."""

T = TypeVar("T")

logger = logging.getLogger("trunkline.background")
_running: Final[set[asyncio.Task[Any]]] = set()


def start_task(
    work: Coroutine[Any, Any, T], name: str, *, expected: type[Exception] | tuple[type[Exception], ...] = ()
) -> asyncio.Task[T]:
    """A task of the running loop. What it dies of is logged at that moment.

    Args:
        expected: what whoever awaits the task deals with: not logged.
    """
    task = asyncio.get_running_loop().create_task(work, name=name)
    _running.add(task)
    task.add_done_callback(functools.partial(_ended, expected))
    return task


def keep_up(work: Callable[[], Coroutine[Any, Any, None]], name: str) -> asyncio.Task[None]:
    """A task that must not die: what it fails with is logged, and it is begun again after a second.

    It is over when ``work`` returns, or when it is cancelled.
    """
    return start_task(_again_and_again(work, name), name)


def thread_died(failure: threading.ExceptHookArgs) -> None:
    """Log what ended a thread; for ``threading.excepthook``, which by default is silent about a SystemExit."""
    name = "?" if failure.thread is None else failure.thread.name
    error = failure.exc_value or failure.exc_type()
    logger.error("thread %s died of %s", name, _kind(error), exc_info=error)


async def _again_and_again(work: Callable[[], Coroutine[Any, Any, None]], name: str) -> None:
    while True:
        try:
            return await work()
        except Exception:
            logger.exception("%s failed; it is begun again in %.3g s", name, PAUSE_SECONDS)
        await asyncio.sleep(PAUSE_SECONDS)


def _ended(expected: type[Exception] | tuple[type[Exception], ...], task: asyncio.Task[Any]) -> None:
    _running.discard(task)
    if task.cancelled():
        return
    error = task.exception()
    if error is not None and not isinstance(error, expected):
        logger.error("task %s died of %s", task.get_name(), _kind(error), exc_info=error)


def _kind(error: BaseException) -> str:
    """Type and text; the text of a BaseException of somebody's own may be anything."""
    try:
        return f"{type(error).__name__}: {error}"
    except BaseException:
        return type(error).__name__
