"""``health.check`` and ``health.detailed``: the health of the hub and its executors, and the causes of trouble."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime
from typing import Any, Literal

import psutil

from trunkline.control.method import HubView
from trunkline.hub.dispatch import Handlers, replying
from trunkline_protocol.hub_methods import HEALTH_CHECK, HEALTH_DETAILED

Status = Literal["healthy", "degraded", "unhealthy", "starting", "stopping"]


def status_of(view: HubView) -> Status:
    """The status of the hub as a whole: degraded where something cannot be served, unhealthy where nothing can."""
    if view.router.draining:
        return "stopping"
    if view.pool.serving:
        return "degraded" if causes_of(view) else "healthy"
    if all(executor["status"] == "starting" and not executor["restarts"] for executor in view.pool.snapshot()):
        return "starting"
    return "unhealthy"


def causes_of(view: HubView) -> list[str]:
    """Why the status is not ``healthy``, in words; empty where it is."""
    causes = ["the hub is stopping"] if view.router.draining else []
    causes += [_trouble(executor) for executor in view.pool.snapshot() if executor["status"] not in ("ready", "busy")]
    return causes + view.pool.obstacles() + view.pool.module_failures() + view.tripped()


def heading(cause: str) -> str:
    """A cause without the text of its error, which may hold secrets: ``/ready`` is open to everybody."""
    return cause.partition(":")[0]


def _trouble(executor: dict[str, Any]) -> str:
    name = executor["worker_id"]
    if executor["status"] == "silent":
        work = f" with {executor['active_requests']} calls" if executor["active_requests"] else ""
        return f"{name} is silent: its process{work} does not answer; a signal stopped it, or a method blocks it"
    why = f": {executor['last_failure']}" if executor["last_failure"] else ""
    return f"{name} is {executor['status']}{why}"


def check(view: HubView) -> dict[str, Any]:
    """The result of ``health.check``: the hub's own process, and the totals of its calls."""
    requests, errors = view.stats.totals()
    return {
        "status": status_of(view),
        "worker_id": "hub",
        "uptime_seconds": round(time.monotonic() - view.started, 3),
        "request_count": requests,
        "error_count": errors,
        "error_rate": errors / requests if requests else 0.0,
        "active_requests": view.router.in_flight,
        "memory_usage": memory_usage(os.getpid()),
        "pipelines_loaded": len({info.pack for info in view.pool.methods.values()}),
        "timestamp": datetime.now(UTC).isoformat(),
    }


def detailed(view: HubView) -> dict[str, Any]:
    """The result of ``health.detailed``: that of ``health.check``, each executor, and the causes of trouble."""
    return check(view) | {
        "causes": causes_of(view),
        "connections": view.connections(),
        "waiting_requests": view.pool.waiting,
        "executors": detailed_executors(view),
    }


def detailed_executors(view: HubView) -> list[dict[str, Any]]:
    """The state of each executor, with the memory that its process uses now."""
    return [executor | {"memory_usage": memory_usage(executor["pid"])} for executor in view.pool.snapshot()]


def memory_usage(pid: int | None) -> dict[str, float] | None:
    """The memory that a process uses now, in MiB and percent of the machine's; None without a process."""
    if pid is None:
        return None
    try:
        process = psutil.Process(pid)
        memory = process.memory_info()
        return {
            "rss_mb": round(memory.rss / 2**20, 1),
            "vms_mb": round(memory.vms / 2**20, 1),
            "percent": round(process.memory_percent(), 2),
        }
    except psutil.Error:
        return None


def methods(view: HubView) -> Handlers:
    """Handlers of ``health.check`` and ``health.detailed``."""
    return replying(HEALTH_CHECK, lambda _: check(view)) | replying(HEALTH_DETAILED, lambda _: detailed(view))
