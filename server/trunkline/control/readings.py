"""Current values for ``/metrics``, read from the parts of the hub at each request."""

from __future__ import annotations

import resource
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, get_args

import psutil

from trunkline.control.connections import ConnectionBook, transports
from trunkline.control.data_folder import Disk
from trunkline.control.health import HealthWatch
from trunkline.control.judgement import is_away
from trunkline.control.method import HubView
from trunkline.hub.breaker import Breakers, State
from trunkline.hub.connection import Traffic
from trunkline.hub.fanout import Fanout
from trunkline.hub.registrations import Registrations
from trunkline.hub.sessions import EndReason, SessionTable
from trunkline.hub.subscriptions import Subscriptions
from trunkline.observe.metrics import APPLICATION_ERROR, error_name
from trunkline.observe.page import Reading
from trunkline_protocol.errors import ERROR_TABLE
from trunkline_protocol.health_reports import SERVING, ExecutorReport, MethodHealth, Status
from trunkline_protocol.session import ResumeRefusal
from trunkline_protocol.tenants import key_in

STATES: Final = ("starting", "ready", "busy", "silent", "down", "stopping")
STATUSES: Final[tuple[str, ...]] = get_args(Status)
CAUSES: Final = (
    "killed_by_hub", "out_of_memory", "signal", "exit", "load_failed", "not_started",
    "memory_soft", "memory_hard", "max_requests",
)  # fmt: skip
BREAKER_STATES: Final[tuple[State, ...]] = ("open", "half_open")
TRANSPORTS: Final = ("websocket", "msgpack", "phoenix", "longpoll", "framed", "http", "sse", "mcp")


@dataclass(frozen=True, slots=True)
class Readings:
    """The parts of the hub that ``/metrics`` reads; :meth:`__call__` reads them.

    Attributes:
        doors: the kind and traffic of each open socket.
        history_bytes: bytes of the events in the history.
        audit_lost: lines of the audit log that could not be written.
        quarantined: inputs in quarantine.
        disk: the disk of the data folder.
        jobs: the number of jobs, by status.
        breakers: the circuit breakers of methods.
        refused: how often something was refused for a limit, by the setting's name.
        failed_logins: how many wrong tokens came.
        certificate_ends: when the TLS certificate ends, in seconds since 1970; None without TLS.
        started_at: when the hub started, in seconds since 1970.
    """

    view: HubView
    health: HealthWatch
    book: ConnectionBook
    doors: Callable[[], Iterable[Traffic]]
    topics: Subscriptions
    fanout: Fanout
    sessions: SessionTable[Any]
    registrations: Registrations
    history_bytes: Callable[[], int]
    audit_lost: Callable[[], int]
    quarantined: Callable[[], int]
    disk: Callable[[], Disk]
    jobs: Callable[[], Mapping[str, int]]
    breakers: Breakers
    refused: Mapping[str, int]
    failed_logins: Callable[[], int]
    certificate_ends: Callable[[], float | None]
    started_at: float = field(default_factory=time.time)

    def __call__(self) -> Iterable[Reading]:
        """All values, as of now."""
        yield from self._health()
        yield from self._machine()
        yield from self._calls()
        yield from self._executors()
        yield from self._connections()
        yield from self._events()
        yield from self._sessions()
        yield from self.view.tenants.readings()

    def _health(self) -> Iterable[Reading]:
        judged = self.health.judgement()
        yield _gauge(
            "trunkline_ready",
            "Whether something can be served, and no group of executors starts for the first time",
            judged.ready,
        )
        status = dict.fromkeys(STATUSES, 0) | {judged.status: 1}
        yield Reading("trunkline_health", "1 for the status that is so", "gauge", status, "status")
        words = {"failing": "Methods that fail", "unavailable": "Methods that are not served now"}
        for state, meaning in words.items():
            found = {_key(each): 1 for each in judged.methods if each.status == state and not is_away(each)}
            yield Reading(f"trunkline_method_{state}", meaning, "gauge", found, "method")

    def _machine(self) -> Iterable[Reading]:
        seconds = time.monotonic() - self.view.started
        yield _gauge("trunkline_uptime_seconds", "Seconds since the hub started", seconds)
        yield _gauge("trunkline_start_time_seconds", "When the hub started, in seconds since 1970", self.started_at)
        used, limit = descriptors()
        yield _gauge("trunkline_open_descriptors", "Open file descriptors of the hub", used)
        yield _gauge("trunkline_max_descriptors", "File descriptors that the hub may have", limit)
        disk = self.disk()
        yield _gauge("trunkline_disk_free_bytes", "Bytes that are free on the disk of the data folder", disk.free)
        yield _gauge("trunkline_disk_bytes", "Size of the disk of the data folder", disk.size)
        yield _gauge("trunkline_disk_low", "Whether room for jobs or collections runs out", bool(disk.low))
        if (ends := self.certificate_ends()) is not None:
            words = "When the TLS certificate ends, in seconds since 1970"
            yield _gauge("trunkline_tls_certificate_end_time_seconds", words, ends)

    def _calls(self) -> Iterable[Reading]:
        view = self.view
        errors = Counter(dict.fromkeys(map(error_name, (*ERROR_TABLE, APPLICATION_ERROR)), 0))
        for code, number in view.stats.sum().errors.items():
            errors[error_name(code)] += number
        yield Reading("trunkline_call_errors", "Calls that ended in an error", "counter", errors, "outcome")
        yield _gauge("trunkline_calls_in_flight", "Calls that have no outcome yet", view.router.in_flight)
        yield _counter("trunkline_failed_logins", "Wrong tokens", self.failed_logins())
        yield Reading(
            "trunkline_refused", "Refused for a limit, by its setting", "counter", dict(self.refused), "limit"
        )
        yield Reading("trunkline_jobs", "Jobs by status", "gauge", self.jobs(), "status")
        yield _gauge("trunkline_calls_waiting", "Calls that wait for an executor", view.pool.waiting)
        yield _gauge("trunkline_callee_calls_waiting", "Calls that wait for a callee", self.registrations.waiting)
        yield _gauge("trunkline_quarantined_inputs", "Inputs in quarantine", self.quarantined())
        states: Counter[str] = Counter(dict.fromkeys(BREAKER_STATES, 0))
        states.update(self.breakers.states(time.monotonic()).values())
        yield Reading("trunkline_breakers", "Circuit breakers that are not closed", "gauge", states, "state")
        yield _counter("trunkline_breakers_opened", "Times that a breaker was opened", self.breakers.opened)
        yield _gauge("trunkline_callees_ejected", "Callees that get no calls for a while", self.registrations.ejected)
        yield _gauge("trunkline_audit_lost", "Audit lines that could not be written", self.audit_lost())

    def _executors(self) -> Iterable[Reading]:
        executors = self.health.executors()
        states: Counter[str] = Counter(dict.fromkeys(STATES, 0))
        causes: Counter[str] = Counter(dict.fromkeys(CAUSES, 0))
        for executor in executors:
            states[executor.status] += 1
            causes.update(executor.restart_causes)
        yield Reading("trunkline_executors", "Executors by state", "gauge", states, "state")
        yield Reading(
            "trunkline_executor_restarts_by_cause",
            "Ends of executors, by cause",
            "counter",
            causes,
            "cause",
        )
        groups = self.view.pool.groups()
        ready = {group.name: sum(each.status in SERVING for each in group.executors) for group in groups}
        yield Reading(
            "trunkline_group_executors_ready", "Executors that are ready and answer, by group", "gauge", ready, "group"
        )
        waiting = {group.name: group.waiting for group in groups}
        yield Reading("trunkline_group_calls_waiting", "Calls that wait, by group", "gauge", waiting, "group")
        by_executor = {executor.worker_id: executor.restarts for executor in executors}
        yield Reading(
            "trunkline_executor_restarts",
            "Restarts since the hub started, by executor",
            "gauge",
            by_executor,
            "executor",
        )
        yield from _of_each(executors)

    def _connections(self) -> Iterable[Reading]:
        kinds = transports(self.doors())
        book = self.book
        yield _gauge("trunkline_connections", "Open connections", kinds.total())
        by_kind = dict.fromkeys(TRANSPORTS, 0) | kinds
        yield Reading("trunkline_connections_by_transport", "Connections by transport", "gauge", by_kind, "transport")
        yield _gauge("trunkline_streams", "Streams that have begun and not ended", book.streams)
        yield _gauge("trunkline_outbox_bytes", "Bytes that wait to be written to connections", book.buffered_bytes)
        yield _counter(
            "trunkline_events_dropped", "Events dropped for connections that read too slowly", book.dropped_events
        )

    def _events(self) -> Iterable[Reading]:
        yield _gauge("trunkline_subscriptions", "Subscriptions of all connections", self.topics.count)
        yield _gauge("trunkline_history_bytes", "Bytes of the events in the history", self.history_bytes())
        yield _gauge("trunkline_deliveries_waiting", "Deliveries of events that wait", self.fanout.backlog)
        yield _counter("trunkline_events_published", "Events published", self.topics.published)
        yield _counter("trunkline_events_delivered", "Deliveries: events times receivers", self.topics.deliveries)

    def _sessions(self) -> Iterable[Reading]:
        counts = self.sessions.counts()
        now = {"attached": counts.attached, "detached": counts.detached}
        yield Reading("trunkline_sessions", "Sessions that can be resumed", "gauge", now, "state")
        yield _counter("trunkline_sessions_opened", "Sessions opened", counts.opened)
        yield _counter("trunkline_sessions_resumed", "Sessions resumed", counts.resumed)
        refused = dict.fromkeys(get_args(ResumeRefusal), 0) | {str(why): each for why, each in counts.refused.items()}
        yield Reading("trunkline_session_refusals", "Refused resumes by reason", "counter", refused, "reason")
        ended = dict.fromkeys(get_args(EndReason), 0) | {str(why): each for why, each in counts.ended.items()}
        yield Reading("trunkline_sessions_ended", "Sessions ended by reason", "counter", ended, "reason")


def _of_each(executors: list[ExecutorReport]) -> Iterable[Reading]:
    """The figures of each executor, as ``health.detailed`` has them."""

    def reading(kind: Literal["gauge", "counter"], name: str, words: str, values: Iterable[float | None]) -> Reading:
        named = zip((executor.worker_id for executor in executors), values, strict=True)
        known = {worker_id: value for worker_id, value in named if value is not None}
        return Reading(f"trunkline_executor_{name}", words, kind, known, "executor")

    sizes = (None if each.memory_usage is None else each.memory_usage.rss_mb * 2**20 for each in executors)
    yield reading("counter", "calls", "Calls that an executor has ended", (each.request_count for each in executors))
    yield reading("counter", "errors", "Of those, the ones with errors", (each.error_count for each in executors))
    yield reading("gauge", "active_calls", "Calls that an executor runs", (each.active_requests for each in executors))
    uptimes = (each.uptime_seconds for each in executors)
    yield reading("gauge", "uptime_seconds", "Seconds since the process of an executor was started", uptimes)
    yield reading("gauge", "cpu_percent", "Its share of one CPU, of a second", (each.cpu_percent for each in executors))
    yield reading("gauge", "memory_bytes", "Resident memory of its process", sizes)


def _key(method: MethodHealth) -> str:
    return key_in(method.tenant, method.method)


def descriptors() -> tuple[int, int]:
    """How many file descriptors this process has open, and how many it may have."""
    return psutil.Process().num_fds(), resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def _gauge(name: str, words: str, value: float) -> Reading:
    return Reading(name, words, "gauge", {"": value})


def _counter(name: str, words: str, value: float) -> Reading:
    return Reading(name, words, "counter", {"": value})
