"""``metrics.get``: call counts and durations by method, since the hub started or of a time range."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Final, TypeVar

import msgspec

from trunkline.control.method import HubView, TallyView
from trunkline.control.sight import MethodSight
from trunkline.hub.dispatch import Handlers, replying
from trunkline.observe.history import Sample, WorkerTotals, merge
from trunkline.observe.metrics import MethodStats, reports_of, total_of
from trunkline_protocol.calls import Caller
from trunkline_protocol.hub_methods import METRICS_GET
from trunkline_protocol.reports import Metrics, MetricsParams, WorkedCalls, WorkerMetrics
from trunkline_protocol.tenants import tenant_and_name

UNITS: Final = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
SERIES_SECONDS: Final = 3600.0
"""Of samples, where no time range is given."""


WorkedT = TypeVar("WorkedT", bound=WorkedCalls)


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


def get(view: HubView, params: MetricsParams, who: Caller | None = None) -> Metrics:
    """The result of ``metrics.get``: counts, and durations in milliseconds from receipt to outcome.

    Methods that clients serve are told of in their tenant, and to admins; calls of others are in the sums.

    ``window_seconds`` is the time that they cover: less than the time range where the hub started within it.
    """
    now = time.monotonic()
    samples: list[Sample] = []
    if params.time_range is None:
        seconds, methods, workers = now - view.started, view.stats.methods, _since_start(view.tallies())
        if params.series:
            samples = view.lately(SERIES_SECONDS)
    else:
        samples = view.lately(seconds_of(params.time_range))
        window = merge(samples) if samples else Sample(now, 0.0, {})
        seconds, methods = window.seconds, window.methods
        workers = {name: _worked(WorkerMetrics, totals) for name, totals in window.workers.items()}
    total = total_of(methods)
    own, others = _by_tenant(view.sight_of(who), methods)
    return Metrics(
        window_seconds=round(seconds, 3),
        request_count=total.count,
        error_count=total.failed,
        requests_per_second=round(total.count / seconds, 3) if seconds else 0.0,
        total=total.report(),
        active_requests=view.router.in_flight,
        waiting_requests=view.pool.waiting,
        methods=reports_of(own),
        tenants={tenant: reports_of(counts) for tenant, counts in sorted(others.items())},
        workers=workers,
        series=[sample.report(now) for sample in samples] if params.series else msgspec.UNSET,
    )


def _by_tenant(
    sight: MethodSight, methods: Mapping[str, MethodStats]
) -> tuple[dict[str, MethodStats], dict[str, dict[str, MethodStats]]]:
    """The counts that somebody may see by name: those of the own tenant and everybody's, and those of other tenants."""
    own: dict[str, MethodStats] = {}
    others: dict[str, dict[str, MethodStats]] = {}
    for key, stats in sight.counts(methods).items():
        tenant, name = tenant_and_name(key)
        (own if sight.is_own(key) else others.setdefault(tenant, {}))[name] = stats
    return own, others


def _since_start(tallies: Mapping[str, Mapping[str, TallyView]]) -> dict[str, WorkerMetrics]:
    workers = {name: _worked(WorkerMetrics, totals) for name, totals in worker_totals(tallies).items()}
    for name, worker in workers.items():
        worker.methods = {method: _worked(WorkedCalls, tally) for method, tally in tallies[name].items()}
    return workers


def _worked(report: type[WorkedT], totals: TallyView | WorkerTotals) -> WorkedT:
    return report(
        count=totals.count,
        success=totals.count - totals.failed,
        mean_ms=round(1000 * totals.seconds / max(1, totals.count), 3),
    )


def methods(view: HubView) -> Handlers:
    """The handler of ``metrics.get``."""
    return replying(METRICS_GET, lambda call, params: get(view, params, call.caller()))
