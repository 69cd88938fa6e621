"""``metrics.get``: call counts and durations by method, since the hub started or of a time range."""

from __future__ import annotations

import time
from typing import Any, Final

from trunkline.control.method import HubView
from trunkline.hub.dispatch import Handlers, replying
from trunkline.observe.history import merge
from trunkline.observe.metrics import MethodStats, snapshot_of, total_of
from trunkline_protocol.hub_methods import METRICS_GET
from trunkline_protocol.reports import MetricsParams

RANGES: Final = {"1m": 60.0, "5m": 300.0, "15m": 900.0, "1h": 3600.0}


def get(view: HubView, params: MetricsParams) -> dict[str, Any]:
    """The result of ``metrics.get``: counts, and durations in milliseconds from receipt to outcome.

    ``window_seconds`` is the time that they cover: less than the time range where the hub started within it.
    """
    now = time.monotonic()
    asked = params.time_range
    if asked is None:
        seconds, methods = now - view.started, view.stats.methods
    else:
        samples = view.lately(RANGES[asked] if isinstance(asked, str) else asked)
        window = merge(samples) if samples else None
        seconds, methods = (0.0, {}) if window is None else (window.seconds, window.methods)
    said = _said(seconds, methods) | {
        "active_requests": view.router.in_flight,
        "waiting_requests": view.pool.waiting,
        "methods": snapshot_of(methods),
    }
    if params.series:
        lately = samples if asked is not None else view.lately(RANGES["1h"])
        said["series"] = [sample.as_data(now) for sample in lately]
    return said


def _said(seconds: float, methods: dict[str, MethodStats]) -> dict[str, Any]:
    total = total_of(methods)
    return {
        "window_seconds": round(seconds, 3),
        "request_count": total.count,
        "error_count": total.failed,
        "requests_per_second": round(total.count / seconds, 3) if seconds else 0.0,
        "total": total.as_data(),
    }


def methods(view: HubView) -> Handlers:
    """The handler of ``metrics.get``."""
    return replying(METRICS_GET, lambda params: get(view, params))
