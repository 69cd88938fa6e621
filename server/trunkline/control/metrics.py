"""``metrics.get``: call counts and durations by method, since the hub started or of a time range."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Final, Protocol

from trunkline.control.method import HubView
from trunkline.hub.dispatch import Handlers, replying
from trunkline.observe.history import WorkerTotals, merge
from trunkline.observe.metrics import MethodStats, snapshot_of, total_of
from trunkline_protocol.hub_methods import METRICS_GET
from trunkline_protocol.reports import MetricsParams

UNITS: Final = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
SERIES_SECONDS: Final = 3600.0
"""Of samples, where no time range is given."""


class TallyView(Protocol):
    """The calls of one method that one executor has finished."""

    count: int
    failed: int
    seconds: float


def worker_totals(tallies: Mapping[str, Mapping[str, TallyView]]) -> dict[str, WorkerTotals]:
    """What each executor has finished, of all methods together."""
    return {
        name: WorkerTotals(
            sum(tally.count for tally in methods.values()),
            sum(tally.failed for tally in methods.values()),
            sum(tally.seconds for tally in methods.values()),
        )
        for name, methods in tallies.items()
    }


def seconds_of(time_range: str | float) -> float:
    """A time range in seconds: a number of them, or a number and its unit, as ``90s``, ``15m``, ``24h``, ``7d``."""
    return float(time_range[:-1]) * UNITS[time_range[-1]] if isinstance(time_range, str) else time_range


def get(view: HubView, params: MetricsParams) -> dict[str, Any]:
    """The result of ``metrics.get``: counts, and durations in milliseconds from receipt to outcome.

    ``window_seconds`` is the time that they cover: less than the time range where the hub started within it.
    """
    now = time.monotonic()
    asked = params.time_range
    if asked is None:
        seconds, methods = now - view.started, view.stats.methods
        tallies = view.tallies()
        workers = {
            name: _worked(totals) | {"methods": {method: _worked(tally) for method, tally in tallies[name].items()}}
            for name, totals in worker_totals(tallies).items()
        }
    else:
        samples = view.lately(seconds_of(asked))
        window = merge(samples) if samples else None
        seconds, methods = (0.0, {}) if window is None else (window.seconds, window.methods)
        workers = {} if window is None else {name: _worked(totals) for name, totals in window.workers.items()}
    said = _said(seconds, methods) | {
        "active_requests": view.router.in_flight,
        "waiting_requests": view.pool.waiting,
        "methods": snapshot_of(methods),
        "workers": workers,
    }
    if params.series:
        lately = samples if asked is not None else view.lately(SERIES_SECONDS)
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


def _worked(totals: TallyView | WorkerTotals) -> dict[str, Any]:
    return {
        "count": totals.count,
        "success": totals.count - totals.failed,
        "mean_ms": round(1000 * totals.seconds / max(1, totals.count), 3),
    }


def methods(view: HubView) -> Handlers:
    """The handler of ``metrics.get``."""
    return replying(METRICS_GET, lambda params: get(view, params))
