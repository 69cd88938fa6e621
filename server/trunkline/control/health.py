"""Health of the hub: keeps the one judgement that all ask for, and answers ``health.check`` and ``health.detailed``."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

import msgspec

from trunkline.control.data_folder import Disk
from trunkline.control.failing import FailureRates
from trunkline.control.judgement import NEVER, STOPPING, Seen, changed, judge, without_messages
from trunkline.control.method import HubView
from trunkline.control.probes import Probes
from trunkline.control.processes import Processes
from trunkline.control.sight import MethodSight
from trunkline.hub.dispatch import Handlers, replying
from trunkline_protocol.calls import Call, Caller
from trunkline_protocol.health_reports import DetailedHealth, ExecutorReport, Health, Serving
from trunkline_protocol.hub_methods import HEALTH_CHECK, HEALTH_DETAILED
from trunkline_protocol.reports import NoParams

TICK_SECONDS: Final = 0.25
READ_EVERY: Final = 4
"""Ticks between two readings of processes."""


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

    def _tick(self) -> None:
        self.start()  # first, so that the timer goes on where a look fails
        self.failures.take(self._clock())
        if self._ticks % READ_EVERY == 0:
            self._disk, self._clients = self._view.disk(), self._view.presence()
            pids = [executor.pid for executor in self._view.pool.snapshot() if executor.pid is not None]
            self.processes.read([os.getpid(), *pids])
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
            return judge(seen.by(sight), self._judged)
        self._judged = judge(seen, self._judged)
        return self._judged

    def missing(self) -> list[str]:
        """Why the hub cannot serve, a phrase each; empty where it is ready."""
        judged = self.judgement()
        if judged.ready:
            return []
        if self._view.router.draining:
            return [STOPPING]
        unready = [cause.text for group in judged.groups if not group.ready for cause in group.causes]
        return [*unready, *self.probes.missing()]

    def check(self) -> Health:
        """The result of ``health.check``."""
        return self._of_hub(self.judgement())

    def detailed(self, who: Caller | None) -> DetailedHealth:
        """The result of ``health.detailed``.

        Args:
            who: asks. An admin is told what the errors of methods say, which may hold data of their callers; others
                nothing of methods that clients serve in other tenants. None is the hub itself.
        """
        sight = self._view.sight_of(who)
        judged = self.judgement(sight)
        told = judged if sight.has_all else without_messages(judged)
        return DetailedHealth(
            **msgspec.structs.asdict(self._of_hub(judged)),
            causes=told.causes,
            groups=told.groups,
            methods=told.methods,
            methods_more=told.methods_more,
            connections=self._view.connections(),
            waiting_requests=self._view.pool.waiting,
            executors=self.executors(),
        )

    def executors(self) -> list[ExecutorReport]:
        """The state of each executor, with what its process uses."""
        return [self._measured(executor) for executor in self._view.pool.snapshot()]

    def _measured(self, executor: ExecutorReport) -> ExecutorReport:
        used = self.processes.of(executor.pid)
        return msgspec.structs.replace(executor, memory_usage=used.memory, cpu_percent=used.cpu_percent)

    def _of_hub(self, judged: Serving) -> Health:
        view = self._view
        requests, errors = view.stats.totals()
        reading = self.processes.of(os.getpid())
        return Health(
            status=judged.status,
            ready=judged.ready,
            since=judged.since,
            worker_id="hub",
            uptime_seconds=round(self._clock() - view.started, 3),
            request_count=requests,
            error_count=errors,
            error_rate=errors / requests if requests else 0.0,
            active_requests=view.router.in_flight,
            memory_usage=reading.memory,
            cpu_percent=reading.cpu_percent,
            pipelines_loaded=len({info.pack for info in view.pool.methods.values()}),
            timestamp=datetime.now(UTC).isoformat(),
        )

    def methods(self) -> Handlers:
        """Handlers of ``health.check`` and ``health.detailed``."""
        return replying(HEALTH_CHECK, lambda _call, _params: self.check()) | replying(HEALTH_DETAILED, self._answer)

    def _answer(self, call: Call, _params: NoParams) -> DetailedHealth:
        return self.detailed(call.caller())


def heading(cause: str) -> str:
    """A cause without the text of its error, which may hold secrets: ``/ready`` is open to everybody."""
    return cause.partition(":")[0]
