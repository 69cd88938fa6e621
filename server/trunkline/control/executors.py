"""The report of ``system.executors``, with calls and CPU share of each; ``executors.drain``, ``executors.assign``."""

from __future__ import annotations

import logging
import time
from collections.abc import Coroutine
from typing import Any, Final, Protocol

import msgspec
import psutil
from msgspec import Struct

from trunkline.background import start_task
from trunkline.control.calls import described
from trunkline.control.health import detailed_executors
from trunkline.control.method import HubView
from trunkline.hub.dispatch import Handlers, answering
from trunkline_protocol.calls import Call
from trunkline_protocol.errors import ErrorCode, RpcError
from trunkline_protocol.hub_methods import EXECUTORS_ASSIGN, EXECUTORS_DRAIN
from trunkline_protocol.reports import Assigned, AssignParams, Drained, DrainParams

MAX_RUNNING: Final = 32
"""Calls that the report of one executor lists, the oldest first."""

logger = logging.getLogger("trunkline.hub")


class ExecutorTable:
    """Makes the rows of ``system.executors``. Remembers processes, for CPU percent is computed between two reports."""

    def __init__(self) -> None:
        self._processes: dict[int, psutil.Process] = {}

    def rows(self, view: HubView) -> list[dict[str, Any]]:
        """Each executor as in ``health.detailed``, with ``cpu_percent`` (None at first) and the calls that it runs."""
        executors = detailed_executors(view)
        now = time.monotonic()
        running = view.pool.running()
        before, self._processes = self._processes, {}
        for executor in executors:
            calls = running.get(executor["worker_id"], [])
            executor["cpu_percent"] = self._cpu_percent(executor["pid"], before)
            executor["running"] = [
                msgspec.structs.asdict(described(call, now)) | {"parked": parked}
                for call, parked in sorted(calls, key=lambda item: item[0].received)[:MAX_RUNNING]
            ]
        return executors

    def _cpu_percent(self, pid: int | None, before: dict[int, psutil.Process]) -> float | None:
        if pid is None:
            return None
        try:
            process = before.get(pid) or psutil.Process(pid)
            percent = process.cpu_percent(None)
        except psutil.Error:
            return None
        self._processes[pid] = process
        return round(percent, 1) if pid in before else None


class Owners(Protocol):
    """Moves routing keys between executors (see :class:`trunkline.executors.handover.KeyOwners`)."""

    async def assign(self, key: str, worker_id: str) -> Assigned:
        """Assign a routing key to an executor."""


class Replaces(Protocol):
    """Replaces executors (see :class:`trunkline.executors.replacement.Replacements`)."""

    async def drain(self, worker_id: str) -> Drained:
        """Replace the process of one executor."""


class ExecutorOrders:
    """Answers ``executors.drain`` and ``executors.assign`` when done; cancelling the call does not stop an order."""

    def __init__(self, owners: Owners, replacements: Replaces) -> None:
        self._owners = owners
        self._replacements = replacements

    def methods(self) -> Handlers:
        """Handlers of ``executors.drain`` and ``executors.assign``."""
        return answering(EXECUTORS_DRAIN, self._drain) | answering(EXECUTORS_ASSIGN, self._assign)

    def _drain(self, call: Call, params: DrainParams) -> None:
        self._begin(call, self._replacements.drain(params.worker_id))

    def _assign(self, call: Call, params: AssignParams) -> None:
        self._begin(call, self._owners.assign(params.key, params.worker_id))

    def _begin(self, call: Call, order: Coroutine[Any, Any, Struct]) -> None:
        start_task(self._settle(call, order), call.method)

    async def _settle(self, call: Call, order: Coroutine[Any, Any, Struct]) -> None:
        try:
            call.settle_result(msgspec.json.encode(await order))
        except RpcError as error:
            call.settle_error(error)
        except Exception:
            logger.exception("%s failed", call.method)
            call.settle_error(RpcError(ErrorCode.INTERNAL_ERROR, f"the hub failed to answer {call.method}"))
