"""``GET /health/detailed``: the result of ``health.detailed`` with the status of each part; and that of one service."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from typing import Final

import msgspec

from trunkline.control.health import HealthWatch
from trunkline_protocol.calls import Caller
from trunkline_protocol.health_reports import (
    DetailedServices,
    ExecutorStatus,
    NamedServiceHealth,
    ServiceHealth,
    Status,
)

HUB: Final = "hub"
_STATUSES: Final[dict[ExecutorStatus, Status]] = {
    "ready": "healthy",
    "busy": "healthy",
    "starting": "starting",
    "stopping": "stopping",
}


async def detailed_services(health: HealthWatch, who: Caller) -> DetailedServices:
    """The result of ``health.detailed`` with ``uptime`` in seconds and ``services: {name: {status, latencyMs}}``.

    The latency of the hub is one turn of its event loop; that of an executor is from its last ping to the pong, null
    before the first; that of a service elsewhere is of its last probe, null where that failed.
    """
    latency = await loop_latency()
    said = health.detailed(who)
    services = {HUB: ServiceHealth(said.status, round(latency * 1000, 3))} | {
        executor.worker_id: ServiceHealth(_STATUSES.get(executor.status, "unhealthy"), executor.latency_ms)
        for executor in said.executors
    }
    services |= health.probes.services
    return DetailedServices(**msgspec.structs.asdict(said), uptime=said.uptime_seconds, services=services)


def service(health: HealthWatch, name: str) -> NamedServiceHealth | None:
    """What is known of one of the services elsewhere; None where the settings name no such one."""
    found = health.probes.services.get(name)
    if found is None:
        return None
    return NamedServiceHealth(found.status, found.latency_ms, service=name, timestamp=datetime.now(UTC).isoformat())


async def loop_latency() -> float:
    """The latency of the event loop: seconds until it runs what is scheduled now."""
    started = time.perf_counter()
    await asyncio.sleep(0)
    return time.perf_counter() - started
