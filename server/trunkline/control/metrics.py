"""``metrics.get``: real counts and durations by method."""

from __future__ import annotations

import time
from typing import Any

from trunkline.control.method import ControlMethod, HubView


def get(view: HubView) -> dict[str, Any]:
    """Everything since the hub started; durations in milliseconds, from receipt to outcome."""
    requests, errors = view.stats.totals()
    return {
        "window_seconds": round(time.monotonic() - view.started, 3),
        "request_count": requests,
        "error_count": errors,
        "active_requests": view.router.in_flight,
        "waiting_requests": view.pool.waiting,
        "methods": view.stats.snapshot(),
    }


def methods(view: HubView) -> list[ControlMethod]:
    """The methods of this file."""
    return [ControlMethod("metrics.get", "Counts and durations by method since the start", lambda _: get(view))]
