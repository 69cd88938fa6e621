"""Recovery that methods declare: calls that failed are tried again, and executors that are broken are replaced.

``@method(recovery=("retry",))``: a retryable error of the method is not the outcome yet: it runs again after a pause.
``@method(recovery=("restart_worker",))``: WORKER_CRASHED 2001, raised by the method itself, says that its process is of
no use any more: it is replaced, and the call runs again in the new one. Either only where nothing was executed, or the
method is idempotent, and nothing was streamed; and within the call's deadline.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

from trunkline.background import start_task
from trunkline.executors.endings import MAX_ATTEMPTS
from trunkline.executors.handle import ExecutorHandle
from trunkline_protocol.calls import Call
from trunkline_protocol.errors import RpcError, draining_error

FIRST_PAUSE: Final = 0.1
"""Seconds before the second attempt, where the error has no ``retry_after_ms``; twice as long before the third."""

RESTART_EVERY: Final = 60.0
"""Seconds within which an executor is replaced once at most, however often its methods ask for it."""

logger = logging.getLogger("trunkline.executors")


class Recovery:
    """Tries calls again, and has executors replaced.

    Args:
        submit: takes a call again; may raise :class:`RpcError`.
        replace: replaces the process of an executor, by its name; returns when the new one serves.
    """

    def __init__(self, submit: Callable[[Call], None], replace: Callable[[str], Awaitable[Any]]) -> None:
        self._submit = submit
        self._replace = replace
        self._pausing: set[Call] = set()
        self._replaced: dict[str, float] = {}

    def takes(self, handle: ExecutorHandle, call: Call, error: RpcError) -> bool:
        """Whether the error of a call is not its outcome, for the call is tried again."""
        kinds = call.info.recovery if call.info is not None else []
        if call.settled:
            return False
        if "restart_worker" in kinds and error.row.recovery == "restart_process":
            if not self._may_replace(handle.name):
                return False
            again = may_try_again(call, error)
            start_task(self._replace_and_submit(handle.name, call if again else None, error), "restart worker")
        else:
            pause = pause_of(call, error)
            again = "retry" in kinds and may_try_again(call, error) and time.monotonic() + pause < call.deadline
            if again:
                asyncio.get_running_loop().call_later(pause, self._again, call)
        if again:
            call.executor = None
            self._pausing.add(call)
        return again

    def stop(self) -> None:
        """Settle the calls that were to be tried again: the hub stops."""
        for call in self._pausing:
            call.settle_error(draining_error(maybe_executed=True))
        self._pausing.clear()

    def _may_replace(self, name: str) -> bool:
        now = time.monotonic()
        if now - self._replaced.get(name, -RESTART_EVERY) < RESTART_EVERY:
            return False
        self._replaced[name] = now
        return True

    async def _replace_and_submit(self, name: str, call: Call | None, error: RpcError) -> None:
        logger.warning("%s is replaced: its method %s", name, error.message)
        try:
            await self._replace(name)
        except RpcError as failure:
            logger.error("%s could not be replaced: %s", name, failure.message)
        if call is not None:
            self._again(call)

    def _again(self, call: Call) -> None:
        if call not in self._pausing:
            return
        self._pausing.discard(call)
        if call.settled:
            return  # its deadline has passed, or it was cancelled
        try:
            self._submit(call)
        except RpcError as error:
            error.maybe_executed = True
            call.settle_error(error)


def may_try_again(call: Call, error: RpcError) -> bool:
    """Whether a call may run again that ended in an error."""
    idempotent = call.info is not None and call.info.idempotent
    begun = call.chunks or (call.input is not None and call.input.begun)
    safe = idempotent or not error.maybe_executed
    return error.retryable and safe and not begun and call.attempts < MAX_ATTEMPTS


def pause_of(call: Call, error: RpcError) -> float:
    """The seconds before a call is tried again."""
    if error.retry_after_ms is not None:
        return error.retry_after_ms / 1000
    return FIRST_PAUSE * 2.0 ** (call.attempts - 1)
