"""Broadcasts: asks the pack instances of every executor to do something, and waits for all to have done it."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from typing import Any

import msgspec

from trunkline.executors import ipc
from trunkline.executors.handle import ExecutorHandle
from trunkline_protocol.errors import ErrorCode, RpcError


class Broadcasts:
    """The broadcasts that wait for answers.

    Args:
        executors: all of a pool.
    """

    def __init__(self, executors: Sequence[ExecutorHandle]) -> None:
        self._executors = executors
        self._numbers = itertools.count(1)
        self._waiting: dict[int, tuple[ExecutorHandle, asyncio.Future[list[Any]]]] = {}

    async def send(self, hook: str, params: dict[str, Any], seconds: float) -> dict[str, list[Any]]:
        """Call a hook of the pack instances in every executor that has loaded them.

        Args:
            hook: one of :data:`trunkline.methods.registry.HOOKS`.
            params: its arguments, by name.
            seconds: how long they may take.

        Returns:
            By executor, what its instances returned; nothing from one whose process has ended meanwhile.

        Raises:
            RpcError: 1002, an executor did not answer in time (``data.executors``); or the error of a hook. The others
                have done it all the same.
        """
        body = msgspec.json.encode(ipc.Broadcast(hook, params))
        asked: dict[asyncio.Future[list[Any]], str] = {}
        mine: list[int] = []
        for handle in self._executors:
            if handle.catalogue is not None and handle.state in ("ready", "stopping"):
                number = next(self._numbers)
                future: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()
                self._waiting[number] = handle, future
                asked[future] = handle.name
                mine.append(number)
                handle.send(ipc.frame(ipc.BROADCAST, number, body))
        try:
            late = (await asyncio.wait(asked, timeout=seconds))[1] if asked else set()
        finally:
            for number in mine:
                self._waiting.pop(number, None)
        if late:
            names = sorted(asked[future] for future in late)
            words = f"{', '.join(names)} did not answer {hook} within {seconds:.3g} s; the others have done it"
            raise RpcError(ErrorCode.COMMUNICATION_TIMEOUT, words, maybe_executed=True, data={"executors": names})
        return {name: future.result() for future, name in asked.items()}

    def answered(self, _handle: ExecutorHandle, number: int, body: bytes) -> None:
        """Handle BROADCAST_DONE."""
        waiting = self._waiting.get(number)
        if waiting is None or waiting[1].done():
            return
        answer = msgspec.json.decode(body)
        if isinstance(answer, list):
            waiting[1].set_result(answer)
        else:
            error = RpcError.from_wire(answer)
            error.message = f"{waiting[0].name}: {error.message}"
            error.maybe_executed = True
            waiting[1].set_exception(error)

    def lost(self, handle: ExecutorHandle) -> None:
        """Expect no more answers of an executor: its process has ended, and with it all that its instances held."""
        for asked, future in self._waiting.values():
            if asked is handle and not future.done():
                future.set_result([])
