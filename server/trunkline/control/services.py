"""``GET /health/detailed``: the result of ``health.detailed``, with the status of each part by name."""

from __future__ import annotations

import asyncio
import time
from typing import Any, Final

import msgspec

from trunkline.control.health import HealthWatch

HUB: Final = "hub"
_WORDS: Final = {"ready": "healthy", "busy": "healthy", "starting": "starting", "stopping": "stopping"}


async def detailed_services(health: HealthWatch, *, with_messages: bool) -> dict[str, Any]:
    """The result of ``health.detailed`` with ``uptime`` in seconds and ``services: {name: {status, latencyMs}}``.

    The latency of the hub is one turn of its event loop; that of an executor is from its last ping to the pong, null
    before the first.
    """
    latency = await loop_latency()
    said = health.detailed(with_messages=with_messages)
    services: dict[str, dict[str, Any]] = {HUB: {"status": said.status, "latencyMs": round(latency * 1000, 3)}}
    for executor in said.executors:
        services[executor.worker_id] = {
            "status": _WORDS.get(executor.status, "unhealthy"),
            "latencyMs": executor.latency_ms,
        }
    whole: dict[str, Any] = msgspec.to_builtins(said)
    return whole | {"uptime": said.uptime_seconds, "services": services}


async def loop_latency() -> float:
    """The latency of the event loop: seconds until it runs what is scheduled now."""
    started = time.perf_counter()
    await asyncio.sleep(0)
    return time.perf_counter() - started
