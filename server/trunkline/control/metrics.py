"""``metrics.get``: call counts and durations by method, since the hub started or of a time range."""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final, TypeVar

import msgspec

from trunkline.control.method import HubView, TallyView
from trunkline.control.sight import MethodSight
from trunkline.hub.dispatch import Handlers, replying
from trunkline.observe.history import Sample, WorkerTotals, merge
from trunkline.observe.metrics import CallStats, MethodStats, reports_of, total_of
from trunkline.observe.tenant_calls import MAX_TENANTS, OTHER_TENANTS, report_of
from trunkline_protocol.calls import Caller
from trunkline_protocol.errors import ErrorCode, RpcError
from trunkline_protocol.hub_methods import METRICS_GET
from trunkline_protocol.reports import Metrics, MetricsParams, TenantMetrics, WorkedCalls, WorkerMetrics
from trunkline_protocol.tenants import BETWEEN, tenant_and_name

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

    Where there are several tenants, others than admins are told of their own tenant's calls alone.

    ``window_seconds`` is the time that they cover: less than the time range where the hub started within it.

    Raises:
        RpcError: 2003, so many tenants are counted that theirs is not.
    """
    sight = view.sight_of(who)
    if sight.is_apart:
        return _own(view, params, sight)
    now = time.monotonic()
    seconds, methods, samples = _counted(view.lately, view.stats, view, params, now)
    if params.time_range is None:
        workers = _since_start(view.tallies())
    else:
        totals = merge(samples).workers if samples else {}
        workers = {name: _worked(WorkerMetrics, worked) for name, worked in totals.items()}
    own, others = _by_tenant(sight, methods)
    by_tenant: dict[str, TenantMetrics] = {}
    if view.tenants.is_on:
        by_tenant = _sums(view, _counted(view.tenants_lately, view.tenants.stats, view, params, now)[1], methods)
    return msgspec.structs.replace(
        _report(now, seconds, methods, samples if params.series else None, own),
        active_requests=view.router.in_flight,
        waiting_requests=view.pool.waiting,
        tenants={tenant: reports_of(counts) for tenant, counts in sorted(others.items())},
        workers=workers,
        by_tenant=by_tenant,
    )


def _own(view: HubView, params: MetricsParams, sight: MethodSight) -> Metrics:
    """What somebody is told who may see its own tenant's calls alone."""
    if not view.tenants.counts(sight.tenant):
        words = f"the calls of {MAX_TENANTS} tenants are counted apart, and those of {sight.tenant:.100} are not"
        raise RpcError(ErrorCode.RESOURCE_EXHAUSTED, f"metrics.get: {words}")
    now = time.monotonic()
    seconds, pairs, samples = _counted(view.tenants_lately, view.tenants.stats, view, params, now)
    own = sight.own(pairs)
    theirs = [replace(sample, methods=sight.own(sample.methods)) for sample in samples]
    active, waiting = view.calls_of(sight.tenant)
    return msgspec.structs.replace(
        _report(now, seconds, own, theirs if params.series else None, own),
        active_requests=active,
        waiting_requests=waiting,
        by_tenant={sight.tenant: report_of(own.values())},
    )


def _counted(
    lately: Callable[[float], list[Sample]], stats: CallStats, view: HubView, params: MetricsParams, now: float
) -> tuple[float, dict[str, MethodStats], list[Sample]]:
    """Seconds, counts in them, and their samples: of the time range, or since the start (with those of an hour)."""
    if params.time_range is None:
        return now - view.started, stats.methods, lately(SERIES_SECONDS) if params.series else []
    samples = lately(seconds_of(params.time_range))
    window = merge(samples) if samples else Sample(now, 0.0, {})
    return window.seconds, window.methods, samples


def _report(
    now: float,
    seconds: float,
    counted: dict[str, MethodStats],
    samples: list[Sample] | None,
    methods: dict[str, MethodStats],
) -> Metrics:
    """What is told of calls, whoever asks; of executors, and of what is in flight, nothing yet."""
    total = total_of(counted)
    return Metrics(
        window_seconds=round(seconds, 3),
        request_count=total.count,
        error_count=total.failed,
        requests_per_second=round(total.count / seconds, 3) if seconds else 0.0,
        total=total.report(),
        active_requests=0,
        waiting_requests=0,
        methods=reports_of(methods),
        workers={},
        series=msgspec.UNSET if samples is None else [sample.report(now) for sample in samples],
    )


def _sums(view: HubView, pairs: dict[str, MethodStats], methods: dict[str, MethodStats]) -> dict[str, TenantMetrics]:
    """What the calls of those tenants come to that made most, and of all others together."""
    tenants: dict[str, list[MethodStats]] = {}
    for key, stats in pairs.items():
        tenants.setdefault(key.partition(BETWEEN)[0], []).append(stats)
    sums = {tenant: report_of(counts) for tenant, counts in tenants.items()}
    most = heapq.nlargest(view.tenants.labels, sums.items(), key=lambda each: each[1].count)
    others = report_of(methods.values())
    for _, told in most:
        for name in others.__struct_fields__:
            setattr(others, name, max(0, round(getattr(others, name) - getattr(told, name), 3)))
    return dict(sorted(most)) | ({OTHER_TENANTS: others} if others.count else {})


def _by_tenant(
    sight: MethodSight, methods: Mapping[str, MethodStats]
) -> tuple[dict[str, MethodStats], dict[str, dict[str, MethodStats]]]:
    """All counts by name: those of the own tenant and everybody's, and those of other tenants."""
    own: dict[str, MethodStats] = {}
    others: dict[str, dict[str, MethodStats]] = {}
    for key, stats in methods.items():
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
