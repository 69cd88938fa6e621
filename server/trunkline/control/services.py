"""``GET /health/detailed``: what ``health.detailed`` says, and the state of each part by name."""

from __future__ import annotations

import asyncio
import time
from typing import Any, Final

from trunkline.control.health import detailed
from trunkline.control.method import HubView

HUB: Final = "hub"
_WORDS: Final = {"ready": "healthy", "busy": "healthy", "starting": "starting", "stopping": "stopping"}


async def detailed_services(view: HubView) -> dict[str, Any]:
    """``health.detailed`` with ``uptime`` in seconds and ``services: {name: {status, latencyMs}}``.

    The hub's latency is that of one turn of its loop; an executor's that of its last ping and its
    pong, null before the first.
    """
    latency = await loop_latency()
    said = detailed(view)
    services: dict[str, dict[str, Any]] = {HUB: {"status": said["status"], "latencyMs": round(latency * 1000, 3)}}
    for executor in said["executors"]:
        services[executor["worker_id"]] = {
            "status": _WORDS.get(executor["status"], "unhealthy"),
            "latencyMs": executor["latency_ms"],
        }
    return said | {"uptime": said["uptime_seconds"], "services": services}


async def loop_latency() -> float:
    """How long whatever the loop has to do next has to wait, in seconds."""
    started = time.perf_counter()
    await asyncio.sleep(0)
    return time.perf_counter() - started
