"""The report of ``system.executors``, with the calls of each; and the orders ``executors.*``."""

from __future__ import annotations

import logging
from collections.abc import Awaitable
from typing import Final, Protocol

import msgspec

from trunkline.control.calls_in_flight import described
from trunkline.control.health import HealthWatch
from trunkline.control.method import PoolView
from trunkline.hub.dispatch import Handlers, answering_later
from trunkline_protocol.calls import Call
from trunkline_protocol.hub_methods import EXECUTORS_ASSIGN, EXECUTORS_DRAIN, EXECUTORS_RELOAD
from trunkline_protocol.reports import (
    Assigned,
    AssignParams,
    Drained,
    DrainParams,
    ExecutorsReport,
    Reloaded,
    ReloadParams,
    RunningCall,
    WorkingExecutor,
)

MAX_RUNNING: Final = 32
"""Calls that the report of one executor lists, the oldest first."""

logger = logging.getLogger("trunkline.hub")


def working_executors(health: HealthWatch, pool: PoolView, now: float) -> ExecutorsReport:
    """The ``data`` of ``system.executors``: each executor as in ``health.detailed``, with the calls that it runs."""
    running = pool.running()
    return ExecutorsReport(
        [
            WorkingExecutor(
                **msgspec.structs.asdict(executor),
                running=[
                    RunningCall(**msgspec.structs.asdict(described(call, now)), parked=parked)
                    for call, parked in _oldest(running.get(executor.worker_id, []))
                ],
            )
            for executor in health.executors()
        ]
    )


def _oldest(calls: list[tuple[Call, bool]]) -> list[tuple[Call, bool]]:
    return sorted(calls, key=lambda item: item[0].received)[:MAX_RUNNING]


class Owners(Protocol):
    """Moves routing keys between executors (see :class:`trunkline.executors.handover.KeyOwners`)."""

    async def assign(self, key: str, worker_id: str, tenant: str) -> Assigned:
        """Assign a routing key, of a tenant's collection, to an executor."""


class Replaces(Protocol):
    """Replaces executors (see :class:`trunkline.executors.replacement.Replacements`)."""

    async def drain(self, worker_id: str) -> Drained:
        """Replace the process of one executor."""

    async def reload(self, group: str | None) -> Reloaded:
        """Replace all, or those of a group."""


class ExecutorOrders:
    """Answers the orders ``executors.*`` when they are done; cancelling the call does not stop an order."""

    def __init__(self, owners: Owners, replacements: Replaces) -> None:
        self._owners = owners
        self._replacements = replacements

    def methods(self) -> Handlers:
        """Handlers of ``executors.drain``, ``executors.reload`` and ``executors.assign``."""
        return (
            answering_later(EXECUTORS_DRAIN, self._drain)
            | answering_later(EXECUTORS_RELOAD, self._reload)
            | answering_later(EXECUTORS_ASSIGN, self._assign)
        )

    def _drain(self, _call: Call, params: DrainParams) -> Awaitable[Drained]:
        return self._replacements.drain(params.worker_id)

    def _reload(self, _call: Call, params: ReloadParams) -> Awaitable[Reloaded]:
        return self._replacements.reload(params.group)

    def _assign(self, _call: Call, params: AssignParams) -> Awaitable[Assigned]:
        return self._owners.assign(params.key, params.worker_id, params.tenant)
