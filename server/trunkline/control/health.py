"""Health of the hub: keeps the one judgement that all ask for, and answers ``health.check`` and ``health.detailed``."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final, NamedTuple

import msgspec

from trunkline.control.data_folder import Disk
from trunkline.control.failing import FailureRate, FailureRates
from trunkline.control.judgement import NEVER, STOPPING, Seen, changed, judge, without_messages
from trunkline.control.method import HubView
from trunkline.control.probes import Probes
from trunkline.control.processes import Processes
from trunkline.control.sight import MethodSight
from trunkline.hub.dispatch import Handlers, replying
from trunkline.observe.metrics import total_of
from trunkline_protocol.calls import Call, Caller
from trunkline_protocol.health_reports import DetailedHealth, ExecutorReport, Health, Serving
from trunkline_protocol.hub_methods import HEALTH_CHECK, HEALTH_DETAILED
from trunkline_protocol.reports import NoParams
from trunkline_protocol.tenants import BETWEEN, key_in, name_in

TICK_SECONDS: Final = 0.25
READ_EVERY: Final = 4
"""Ticks between two readings of processes."""


class _Counted(NamedTuple):
    """Calls that ended, those of them that failed, those in flight, and those of these that wait."""

    calls: int
    failed: int
    active: int
    waiting: int


class HealthWatch:
    """Judges the hub's health a few times a second, and whenever somebody asks.

    Args:
        view: what is judged.
        clock: monotonic, in seconds.
        probes: of the services elsewhere that settings name.

    Attributes:
        failures: what fails, by method.
        processes: what the processes of hub and executors use.
        probes: as given.
        on_change: called after a tick that has found another judgement.
    """

    def __init__(
        self, view: HubView, clock: Callable[[], float] = time.monotonic, probes: Probes | None = None
    ) -> None:
        self._view = view
        self.probes = probes or Probes({})
        self._clock = clock
        self.failures = FailureRates(view.stats)
        self._of_tenants = FailureRates(view.tenants.stats)
        self.processes = Processes(clock)
        self.on_change: Callable[[], None] = lambda: None
        self._said = self._judged = NEVER
        self._timer: asyncio.TimerHandle | None = None
        self._ticks = 0
        self._disk = Disk()
        self._clients: dict[str, bool] = {}

    def start(self) -> None:
        """Begin to watch."""
        self._timer = asyncio.get_running_loop().call_later(TICK_SECONDS, self._tick)

    def stop(self) -> None:
        """Stop watching."""
        if self._timer is not None:
            self._timer.cancel()

    def note(self, call: Call, method: str | None) -> None:
        """Keep the error of a call that has failed, after it was counted; ``method`` is its key."""
        self.failures.note(method, call.failure)
        if self._view.tenants.is_on and method is not None:
            self._of_tenants.note(f"{call.tenant}{BETWEEN}{name_in(method)}", call.failure)

    def _tick(self) -> None:
        self.start()  # first, so that the timer goes on where a look fails
        self.failures.take(self._clock())
        if self._ticks % READ_EVERY == 0:
            self._disk, self._clients = self._view.disk(), self._view.presence()
            pids = [executor.pid for executor in self._view.pool.snapshot() if executor.pid is not None]
            self.processes.read([os.getpid(), *pids])
            if self._view.tenants.is_on:
                self._of_tenants.take(self._clock())
        self._ticks += 1
        now = self.judgement()
        if changed(now, self._said):
            self._said = now
            self.on_change()

    def judgement(self, sight: MethodSight | None = None) -> Serving:
        """What can be served now, as far as somebody may see it; by default all of it."""
        view = self._view
        failing = self.failures.failing(self._clock())
        at = int(time.time() * 1000)
        low = [*(each.text for each in self._disk.low), *self._view.expiring()]
        groups, draining = view.pool.groups(), view.router.draining
        away = self.probes.troubles(), self.probes.missing()
        seen = Seen(draining, groups, failing, self._clients, self._disk.trouble, at, view.tripped(), low, *away)
        if sight is not None and not sight.has_all:
            if sight.is_apart:
                seen = replace(seen, failing=list(self._failing_for(sight)))
            return judge(seen.by(sight), self._judged)
        self._judged = judge(seen, self._judged)
        return self._judged

    def _failing_for(self, sight: MethodSight) -> Iterator[FailureRate]:
        """The methods that fail for one tenant, by their keys."""
        for rate in self._of_tenants.failing(self._clock()):
            tenant, _, name = rate.method.partition(BETWEEN)
            if tenant == sight.tenant:
                yield rate._replace(method=key if (key := key_in(tenant, name)) in self._clients else name)

    def missing(self) -> list[str]:
        """Why the hub cannot serve, a phrase each; empty where it is ready."""
        judged = self.judgement()
        if judged.ready:
            return []
        if self._view.router.draining:
            return [STOPPING]
        unready = [cause.text for group in judged.groups if not group.ready for cause in group.causes]
        return [*unready, *self.probes.missing()]

    def open_to_all(self) -> Health:
        """The body of ``GET /health``: as ``health.check``, but of calls only where there is but one tenant."""
        return self._of_hub(self.judgement(), None if self._view.tenants.is_on else self._all())

    def check(self, who: Caller | None) -> Health:
        """The result of ``health.check``."""
        sight = self._view.sight_of(who)
        return self._of_hub(self.judgement(), self._own(sight) if sight.is_apart else self._all())

    def detailed(self, who: Caller | None) -> DetailedHealth:
        """The result of ``health.detailed``.

        Args:
            who: asks. An admin is told what the errors of methods say, which may hold data of their callers; others
                nothing of what other tenants do. None is the hub itself.
        """
        view = self._view
        sight = view.sight_of(who)
        judged = self.judgement(sight)
        told = judged if sight.has_all else without_messages(judged)
        counted = self._own(sight) if sight.is_apart else self._all()
        return DetailedHealth(
            **msgspec.structs.asdict(self._of_hub(judged, counted)),
            causes=told.causes,
            groups=[msgspec.structs.replace(each, waiting_requests=None) for each in told.groups]
            if sight.is_apart
            else told.groups,
            methods=told.methods,
            methods_more=told.methods_more,
            connections=view.connections_of(sight.tenant) if sight.is_apart else view.connections(),
            waiting_requests=counted.waiting,
            executors=[] if sight.is_apart else self.executors(),
        )

    def executors(self) -> list[ExecutorReport]:
        """The state of each executor, with what its process uses."""
        return [self._measured(executor) for executor in self._view.pool.snapshot()]

    def _measured(self, executor: ExecutorReport) -> ExecutorReport:
        used = self.processes.of(executor.pid)
        return msgspec.structs.replace(executor, memory_usage=used.memory, cpu_percent=used.cpu_percent)

    def _all(self) -> _Counted:
        view = self._view
        return _Counted(*view.stats.totals(), view.router.in_flight, view.pool.waiting)

    def _own(self, sight: MethodSight) -> _Counted:
        total = total_of(sight.own(self._view.tenants.stats.methods))
        return _Counted(total.count, total.failed, *self._view.calls_of(sight.tenant))

    def _of_hub(self, judged: Serving, counted: _Counted | None) -> Health:
        view = self._view
        reading = self.processes.of(os.getpid())
        return Health(
            status=judged.status,
            ready=judged.ready,
            since=judged.since,
            worker_id="hub",
            uptime_seconds=round(self._clock() - view.started, 3),
            request_count=None if counted is None else counted.calls,
            error_count=None if counted is None else counted.failed,
            error_rate=None if counted is None else counted.failed / max(1, counted.calls),
            active_requests=None if counted is None else counted.active,
            memory_usage=reading.memory,
            cpu_percent=reading.cpu_percent,
            pipelines_loaded=len({info.pack for info in view.pool.methods.values()}),
            timestamp=datetime.now(UTC).isoformat(),
        )

    def methods(self) -> Handlers:
        """Handlers of ``health.check`` and ``health.detailed``."""
        return replying(HEALTH_CHECK, lambda call, _params: self.check(call.caller())) | replying(
            HEALTH_DETAILED, self._answer
        )

    def _answer(self, call: Call, _params: NoParams) -> DetailedHealth:
        return self.detailed(call.caller())


def heading(cause: str) -> str:
    """A cause without the text of its error, which may hold secrets: ``/ready`` is open to everybody."""
    return cause.partition(":")[0]
