"""Current values for ``/metrics``, read from the parts of the hub at each request."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from trunkline.control.connections import ConnectionBook, transports
from trunkline.control.method import HubView
from trunkline.hub.connection import Traffic
from trunkline.hub.fanout import Fanout
from trunkline.hub.registrations import Registrations
from trunkline.hub.sessions import SessionTable
from trunkline.hub.subscriptions import Subscriptions
from trunkline.observe.page import Reading

STATES: Final = ("starting", "ready", "busy", "silent", "down", "stopping")
CAUSES: Final = ("killed_by_hub", "out_of_memory", "signal", "exit", "load_failed", "not_started")
TRANSPORTS: Final = ("websocket", "msgpack", "phoenix", "framed", "http", "mcp")


@dataclass(frozen=True, slots=True)
class Readings:
    """The parts of the hub that ``/metrics`` reads; :meth:`__call__` reads them.

    Attributes:
        doors: the kind and traffic of each open socket.
        history_bytes: bytes of the events in the history.
        audit_lost: lines of the audit log that could not be written.
        quarantined: inputs in quarantine.
        jobs: the number of jobs, by status.
    """

    view: HubView
    book: ConnectionBook
    doors: Callable[[], Iterable[Traffic]]
    topics: Subscriptions
    fanout: Fanout
    sessions: SessionTable[Any]
    registrations: Registrations
    history_bytes: Callable[[], int]
    audit_lost: Callable[[], int]
    quarantined: Callable[[], int]
    jobs: Callable[[], Mapping[str, int]]

    def __call__(self) -> Iterable[Reading]:
        """All values, as of now."""
        yield from self._calls()
        yield from self._executors()
        yield from self._connections()
        yield from self._events()
        yield from self._sessions()

    def _calls(self) -> Iterable[Reading]:
        view = self.view
        yield _gauge("trunkline_uptime_seconds", "Seconds since the hub started", time.monotonic() - view.started)
        yield _gauge("trunkline_calls_in_flight", "Calls that have no outcome yet", view.router.in_flight)
        yield Reading("trunkline_jobs", "Jobs by status", "gauge", self.jobs(), "status")
        yield _gauge("trunkline_calls_waiting", "Calls that wait for an executor", view.pool.waiting)
        yield _gauge("trunkline_callee_calls_waiting", "Calls that wait for a callee", self.registrations.waiting)
        yield _gauge("trunkline_quarantined_inputs", "Inputs in quarantine", self.quarantined())
        yield _gauge("trunkline_audit_lost", "Audit lines that could not be written", self.audit_lost())

    def _executors(self) -> Iterable[Reading]:
        executors = self.view.pool.snapshot()
        states: Counter[str] = Counter(dict.fromkeys(STATES, 0))
        causes: Counter[str] = Counter(dict.fromkeys(CAUSES, 0))
        for executor in executors:
            states[executor["status"]] += 1
            causes.update(executor["restart_causes"])
        yield Reading("trunkline_executors", "Executors by state", "gauge", states, "state")
        yield Reading(
            "trunkline_executor_restarts_by_cause", "Unexpected ends of executors", "counter", causes, "cause"
        )
        ready = dict.fromkeys(self.view.pool.waiting_by_group(), 0)
        ready |= Counter(each["group"] for each in executors if each["status"] in ("ready", "busy"))
        yield Reading(
            "trunkline_group_executors_ready", "Executors that are ready and answer, by group", "gauge", ready, "group"
        )
        waiting = self.view.pool.waiting_by_group()
        yield Reading("trunkline_group_calls_waiting", "Calls that wait, by group", "gauge", waiting, "group")
        by_executor = {executor["worker_id"]: executor["restarts"] for executor in executors}
        yield Reading(
            "trunkline_executor_restarts",
            "Restarts since the hub started, by executor",
            "gauge",
            by_executor,
            "executor",
        )

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
        refused = {str(reason): number for reason, number in counts.refused.items()}
        yield Reading("trunkline_session_refusals", "Refused resumes by reason", "counter", refused, "reason")
        ended = {str(reason): number for reason, number in counts.ended.items()}
        yield Reading("trunkline_sessions_ended", "Sessions ended by reason", "counter", ended, "reason")


def _gauge(name: str, words: str, value: float) -> Reading:
    return Reading(name, words, "gauge", {"": value})


def _counter(name: str, words: str, value: float) -> Reading:
    return Reading(name, words, "counter", {"": value})
