"""What each executor is doing, with its process's share of the machine; and what an operator may ask of one."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Coroutine
from typing import Any, Final, Protocol

import msgspec
import psutil

from trunkline.background import start_task
from trunkline.control.calls import described, require_admin
from trunkline.control.health import detailed_executors
from trunkline.control.method import HubView, describe
from trunkline.hub.client_calls import decode_params
from trunkline_protocol.calls import Call
from trunkline_protocol.errors import ErrorCode, RpcError

MAX_RUNNING: Final = 32
"""Calls told of one executor, the oldest first."""

logger = logging.getLogger("trunkline.hub")


class ExecutorTable:
    """Makes the rows of ``system.executors``. Keeps processes from row to row: CPU time has to be compared."""

    def __init__(self) -> None:
        self._processes: dict[int, psutil.Process] = {}

    def rows(self, view: HubView) -> list[dict[str, Any]]:
        """Each executor as ``health.detailed`` has it, with ``cpu_percent`` (None at first) and what it runs."""
        executors = detailed_executors(view)
        now = time.monotonic()
        running = view.pool.running()
        before, self._processes = self._processes, {}
        for executor in executors:
            calls = running.get(executor["worker_id"], [])
            executor["cpu_percent"] = self._cpu_percent(executor["pid"], before)
            executor["running"] = [
                described(call, now) | {"parked": parked}
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
    """Who owns which routing keys (see :class:`trunkline.executors.handover.KeyOwners`)."""

    async def drain(self, worker_id: str) -> dict[str, Any]:
        """Hand over what an executor owns, and start a fresh one in its place."""

    async def assign(self, key: str, worker_id: str) -> dict[str, Any]:
        """Give a routing key to an executor."""


class DrainParams(msgspec.Struct, forbid_unknown_fields=True):
    """Params of ``executors.drain``."""

    worker_id: str


class AssignParams(msgspec.Struct, forbid_unknown_fields=True):
    """Params of ``executors.assign``; ``key`` is a routing key, such as a collection's name."""

    key: str
    worker_id: str


ORDERS: Final = (
    describe(
        "executors.drain",
        "Hand over what an executor owns and replace it by a fresh one (role admin)",
        DrainParams,
        idempotent=False,
    ),
    describe("executors.assign", "Give a routing key to an executor (role admin)", AssignParams, idempotent=True),
)


class ExecutorOrders:
    """Answers both, when it is done. Whoever asked may go: what has begun is brought to its end."""

    def __init__(self, owners: Owners) -> None:
        self._owners = owners

    def methods(self) -> dict[str, Callable[[Call], None]]:
        """The calls of this file, by name."""
        return {"executors.drain": self._drain, "executors.assign": self._assign}

    def _drain(self, call: Call) -> None:
        require_admin(call)
        self._begin(call, self._owners.drain(decode_params(call, DrainParams).worker_id))

    def _assign(self, call: Call) -> None:
        require_admin(call)
        params = decode_params(call, AssignParams)
        self._begin(call, self._owners.assign(params.key, params.worker_id))

    def _begin(self, call: Call, order: Coroutine[Any, Any, dict[str, Any]]) -> None:
        start_task(self._settle(call, order), call.method)

    async def _settle(self, call: Call, order: Coroutine[Any, Any, dict[str, Any]]) -> None:
        try:
            call.settle_result(msgspec.json.encode(await order))
        except RpcError as error:
            call.settle_error(error)
        except Exception:
            logger.exception("%s failed", call.method)
            call.settle_error(RpcError(ErrorCode.INTERNAL_ERROR, f"the hub failed to answer {call.method}"))
