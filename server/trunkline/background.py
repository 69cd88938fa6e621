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
"""The back-off before a task of :func:`keep_up` is started again."""

T = TypeVar("T")

logger = logging.getLogger("trunkline.background")
_running: Final[set[asyncio.Task[Any]]] = set()


def start_task(
    work: Coroutine[Any, Any, T], name: str, *, expected: type[Exception] | tuple[type[Exception], ...] = ()
) -> asyncio.Task[T]:
    """Start a task on the running loop. An exception that ends it is logged at once.

    Args:
        expected: exceptions that are not logged, because whoever awaits the task handles them.
    """
    task = asyncio.get_running_loop().create_task(work, name=name)
    _running.add(task)
    task.add_done_callback(functools.partial(_ended, expected))
    return task


def keep_up(work: Callable[[], Coroutine[Any, Any, None]], name: str) -> asyncio.Task[None]:
    """Start a task that must not die: an exception is logged, and ``work`` is called again after a second.

    The task is over when ``work`` returns, or when it is cancelled.
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
            logger.exception("%s failed; it is started again in %.3g s", name, PAUSE_SECONDS)
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
