"""Batching by declaration: calls of one method that come together run as one call of its function.

Work-conserving: a call that comes while nothing runs is run at once, unless ``max_wait_ms`` asks otherwise; what comes
meanwhile is the next batch.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import inspect
import operator
from collections import deque
from collections.abc import Awaitable, Callable
from types import UnionType
from typing import Any, Union, get_args, get_origin

from trunkline.background import start_task
from trunkline.methods.batching import BATCH_SIZES
from trunkline.methods.context import Context
from trunkline.methods.declaration import Batch
from trunkline.methods.user_errors import Outcome
from trunkline_protocol.errors import ErrorCode, RpcError


def item_hints(function: Callable[..., Any], hints: dict[str, Any], name: str) -> dict[str, Any]:
    """The hints of one call of a batched function, each of whose parameters and results is a list, one item a call.

    Raises:
        TypeError: a parameter, or the result, is none; or a parameter has a default.
    """
    for parameter in inspect.signature(function).parameters.values():
        if parameter.default is not parameter.empty:
            raise TypeError(f"{name}: {parameter.name} has a default, which a batch of calls cannot have; leave it out")
    named = [each.name for each in inspect.signature(function).parameters.values()]
    return {part: _item_hint(part, hints.get(part), name) for part in (*named, "return")}


def _item_hint(part: str, hint: Any, name: str) -> Any:
    if get_origin(hint) is not list or not get_args(hint):
        what = "its result" if part == "return" else part
        found = getattr(hint, "__name__", hint)
        raise TypeError(f"{name}: with batch=..., {what} is annotated list[T], of one T a call; not {found}")
    return _without_errors(get_args(hint)[0])


def _without_errors(hint: Any) -> Any:
    """A hint such as ``int | RpcError`` without the exceptions, which are no results."""
    if get_origin(hint) not in (Union, UnionType):
        return hint
    kept = [each for each in get_args(hint) if not (isinstance(each, type) and issubclass(each, BaseException))]
    return functools.reduce(operator.or_, kept) if kept else hint


class _Waiting:
    __slots__ = ("arguments", "context", "outcome")

    def __init__(self, arguments: dict[str, Any], context: Context) -> None:
        self.arguments = arguments
        self.context = context
        self.outcome: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()

    @property
    def is_wanted(self) -> bool:
        """Whether somebody still waits for it."""
        return not self.outcome.done() and not self.context.cancelled and self.context.remaining > 0


class BatchedCalls:
    """Gathers the calls of one method.

    Args:
        name: of the method.
        limits: of a batch.
        run: calls the function with a list for each parameter.
        runs_again: where a batch failed, its calls may run again one by one, since the method is idempotent.
    """

    def __init__(
        self, name: str, limits: Batch, run: Callable[[dict[str, list[Any]]], Awaitable[Any]], *, runs_again: bool
    ) -> None:
        self._name = name
        self._limits = limits
        self._run = run
        self._runs_again = runs_again
        self._waiting: deque[_Waiting] = deque()
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._batch: list[_Waiting] = []
        self._running: asyncio.Future[Outcome] | None = None

    async def call(self, arguments: dict[str, Any], context: Context) -> Any:
        """The result of one call, by way of a batch.

        Raises:
            BaseException: what the function raised, or returned in this call's place.
        """
        waiting = _Waiting(arguments, context)
        self._waiting.append(waiting)
        self._news.set()
        if self._task is None or self._task.done():
            # In no call's context: what it logs is of all of them.
            self._task = contextvars.Context().run(start_task, self._work(), f"batches of {self._name}")
        try:
            outcome = await waiting.outcome
        except asyncio.CancelledError:
            await self._leave(waiting)
            raise
        return outcome.take()

    async def _leave(self, waiting: _Waiting) -> None:
        """End the batch that runs, if this was the last call that wanted it: a cancel has to reach the function."""
        running = self._running
        if running is not None and waiting in self._batch and not any(each.is_wanted for each in self._batch):
            running.cancel()
            await asyncio.wait([running])  # a plain function cannot be stopped: the call has not ended before it has

    async def _work(self) -> None:
        """Run batches until none waits."""
        while self._waiting:
            if self._limits.max_wait_ms:
                await self._gather()
            batch = self._take()
            if batch:
                await self._run_batch(batch)

    async def _gather(self) -> None:
        """Wait for a full batch, as long as its first call may wait."""
        loop = asyncio.get_running_loop()
        until = loop.time() + self._limits.max_wait_ms / 1000
        while len(self._waiting) < self._limits.max_items and (left := until - loop.time()) > 0:
            self._news.clear()
            try:
                await asyncio.wait_for(self._news.wait(), left)
            except TimeoutError:
                return

    def _take(self) -> list[_Waiting]:
        taken: list[_Waiting] = []
        while self._waiting and len(taken) < self._limits.max_items:
            waiting = self._waiting.popleft()
            if waiting.is_wanted:
                taken.append(waiting)
            elif not waiting.outcome.done():
                waiting.outcome.set_result(Outcome(None, _given_up(self._name, waiting.context)))
        return taken

    async def _run_batch(self, batch: list[_Waiting]) -> None:
        BATCH_SIZES.observe(len(batch), self._name)
        columns = {name: [each.arguments[name] for each in batch] for name in batch[0].arguments}
        outcome = await self._outcome(batch, columns)
        if outcome.error is None:
            outcome = Outcome.of(self._checked, outcome.take(), len(batch))
        if outcome.error is not None and len(batch) > 1 and self._runs_again:
            del outcome
            for each in batch:
                await self._run_batch([each])
        else:
            _settle(batch, outcome)

    async def _outcome(self, batch: list[_Waiting], columns: dict[str, list[Any]]) -> Outcome:
        self._batch = batch
        self._running = start_task(Outcome.awaited(self._run(columns)), f"a batch of {self._name}")
        try:
            return await self._running
        except BaseException as error:  # a cancel that came before its first step
            return Outcome(None, error)
        finally:
            self._running = None

    def _checked(self, results: Any, calls: int) -> list[Any]:
        """The results, one a call, exceptions among them.

        Raises:
            RpcError: 1003, they are no list of as many.
        """
        if isinstance(results, (str, bytes, dict)) or not hasattr(results, "__len__") or len(results) != calls:
            found = type(results).__name__ + (f" of {len(results)}" if hasattr(results, "__len__") else "")
            message = f"{self._name} returned {found} for a batch of {calls} calls, not a list with a result of each"
            raise RpcError(ErrorCode.SERIALIZATION_ERROR, message, maybe_executed=True)
        return list(results)


def _settle(batch: list[_Waiting], outcome: Outcome) -> None:
    """Give each call of a batch its own result, or exception; what the batch raised is that of each."""
    error = outcome.error
    results = outcome.result if error is None else [error] * len(batch)
    for each, result in zip(batch, results, strict=True):
        if not each.outcome.done():
            each.outcome.set_result(_one_call(result))


def _one_call(result: Any) -> Outcome:
    return Outcome(None, result) if isinstance(result, BaseException) else Outcome(result)


def _given_up(name: str, context: Context) -> RpcError:
    if context.cancelled:
        return RpcError(ErrorCode.CANCELLED, f"{name} was cancelled before it ran")
    return RpcError(ErrorCode.COMMUNICATION_TIMEOUT, f"{name}: the deadline passed before its batch ran")
