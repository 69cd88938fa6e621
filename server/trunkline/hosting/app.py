"""The composition root: builds the parts of one hub from the settings, and wires them to each other."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from trunkline.broker.common import HistoryLimits
from trunkline.broker.keys import PublishKeyLimits
from trunkline.broker.memory import MemoryBroker
from trunkline.config import Settings
from trunkline.control import HubView, control_methods
from trunkline.control.audit_trail import AuditTrail
from trunkline.control.caches import CacheCalls
from trunkline.control.call_tracing import make_tracer
from trunkline.control.calls_in_flight import CallsInFlight
from trunkline.control.conversations import ConversationCalls
from trunkline.control.data_folder import DataFolder, Disk
from trunkline.control.executors import ExecutorOrders
from trunkline.control.failed_calls import FailedCalls
from trunkline.control.health import HealthWatch
from trunkline.control.job_calls import JobCalls
from trunkline.control.method import tools
from trunkline.control.metrics import worker_totals
from trunkline.control.monitoring import Monitor
from trunkline.control.pipelines import PipelineLimits, Pipelines
from trunkline.control.probes import Probes
from trunkline.control.readings import Readings
from trunkline.control.request_log import request_log
from trunkline.control.sampling import Sampler, failed_calls
from trunkline.control.tenant_store import TenantStore
from trunkline.control.tenants import Tenants
from trunkline.control.topic_list import TopicList
from trunkline.conversations.limits import ConversationLimits
from trunkline.conversations.service import Conversations
from trunkline.edge.access.failed_logins import FailedLogins
from trunkline.edge.access.rules import LOOPBACK_NAMES, AccessRules
from trunkline.edge.context import EdgeContext
from trunkline.edge.framed.listeners import FramedDoors
from trunkline.edge.refusal import Refusal
from trunkline.executors.availability import tallies
from trunkline.executors.handover import HandOverLimits
from trunkline.executors.pool import ExecutorPool
from trunkline.executors.process_limits import ProcessLimits
from trunkline.executors.quarantine import QuarantineLimits
from trunkline.executors.replacement import ReplacementLimits
from trunkline.executors.specs import GroupSpec
from trunkline.hosting.admission import credentials, tls
from trunkline.hosting.audited import audit_log, refused, who
from trunkline.hosting.executor_reports import reports
from trunkline.hosting.executor_settings import group_specs
from trunkline.hosting.limit_settings import connection_limits, share_limits
from trunkline.hosting.runtime import ConfigurationError
from trunkline.hosting.tenant_holdings import Holdings
from trunkline.hub.authentication import Authentication
from trunkline.hub.breaker import FAILURES, BreakerLimits, Breakers
from trunkline.hub.byte_account import ByteAccount
from trunkline.hub.connection import Connection, Services
from trunkline.hub.fanout import Fanout
from trunkline.hub.idempotency import KeyLimits
from trunkline.hub.limits import RateLimiter
from trunkline.hub.outbox import Flusher
from trunkline.hub.principal import Handshake, Principal
from trunkline.hub.registrations import Registrations
from trunkline.hub.resumption import Resumption, SessionLink
from trunkline.hub.router import Router
from trunkline.hub.sessions import SessionTable
from trunkline.hub.shares import Shares
from trunkline.hub.subscriptions import Subscriptions
from trunkline.hub.topic_history import TopicHistory
from trunkline.hub.topic_spaces import TopicSpaces
from trunkline.jobs.limits import JobLimits
from trunkline.jobs.service import Jobs
from trunkline.jobs.store import JobStore
from trunkline.observe.figures import ExecutorFigures
from trunkline.observe.history import History, Sample
from trunkline.observe.metrics import CallStats
from trunkline.observe.secrets import SecretMask
from trunkline.observe.tap import LogTap
from trunkline.observe.tenant_calls import TenantCalls
from trunkline.storage.disk_thread import DiskThread
from trunkline.version import __version__
from trunkline_protocol.backlog import QueueLimits
from trunkline_protocol.calls import Call
from trunkline_protocol.catalogue import MethodInfo
from trunkline_protocol.depth import MAX_DEPTH
from trunkline_protocol.errors import RpcError
from trunkline_protocol.messages import ActAs, HubLimits
from trunkline_protocol.principals import StorageQuotas
from trunkline_protocol.tenants import SharedNames

if TYPE_CHECKING:
    from trunkline.observe.tracing import Tracer

logger = logging.getLogger("trunkline")


class HubParts:
    """The parts of one hub: pool, router, topics, sessions, jobs, doors, and what observes them.

    Args:
        settings: validated settings.
        executors_changed: called when an executor has become ready, has failed or is gone.

    Raises:
        ConfigurationError: the settings do not work on this machine.
    """

    def __init__(self, settings: Settings, executors_changed: Callable[[], None]) -> None:
        self.settings = settings
        self._changed = executors_changed
        self._keys = (settings.idempotency_keys, settings.idempotency_keys_per_principal)
        self._queue_limits = QueueLimits(
            settings.queue_limit, settings.queue_limit_per_connection, settings.queue_bytes
        )
        self.credentials = credentials(settings)
        self.tls = tls(settings)
        self.limits = connection_limits(settings)
        self._observe(settings)
        self._carry_calls(settings)
        self._watch(settings)
        self._publish(settings)
        self._let_in(settings)
        self._keep(settings)
        self._serve_own_methods()

    def _carry_calls(self, settings: Settings) -> None:
        self.pool = self._pool(settings)
        self.shares = Shares(share_limits(settings))
        self.shared_methods = SharedNames(settings.shared_methods)
        self.registrations = Registrations(self.pool, self._queue_limits, settings.callee_grace, self.shared_methods)
        self.router = self._router(settings)
        self.router.tracer = self.tracer

    def _watch(self, settings: Settings) -> None:
        self.view = self._view(settings)
        self.health = HealthWatch(self.view, probes=Probes(settings.services, settings.required_services))
        self.monitor = Monitor(self.view, self.health, lambda: self.topics, self.log_tap, self.failed)

    def _publish(self, settings: Settings) -> None:
        self.broker = self._broker(settings)
        self.spaces = TopicSpaces(self.broker, SharedNames(settings.shared_topics))
        self.fanout = Fanout(asyncio.get_running_loop().call_soon, time.monotonic, lambda: self.router.in_flight > 0)
        self.topics = Subscriptions(
            self.spaces,
            self.fanout,
            self.limits,
            self.monitor.interest_changed,
            settings.unsigned_topics,
            self.router.keys.require_epoch,
        )

    def _let_in(self, settings: Settings) -> None:
        self.logins = FailedLogins(
            self._principal_of,
            settings.failed_logins,
            signed=settings.verifies_jwts,
            refused=self.shares.refused,
            prepare=self.credentials.prepare,
        )
        self.authentication = Authentication(
            self._authenticate_token,
            settings.auth_seconds,
            self._authenticated,
            self.registrations.may_keep,
            self.shares.require_connection,
            self.logins.prepare,
            settings.auth_max_seconds,
        )
        self.sessions = self._sessions(settings)
        self.context = self._edge_context(settings)
        self.framed = FramedDoors(self.context, __version__)

    def _keep(self, settings: Settings) -> None:
        """Make what keeps files, and what counts for tenants."""
        data = settings.data.absolute()
        store, disk = self._jobs_disk(settings)
        self.jobs = Jobs(
            store,
            disk,
            self.router.route,
            self.pool.find,
            self.answers,
            self.spaces,
            JobLimits.of(settings, len(self.pool.executors)),
            lambda tenant: self.tenants.holds(tenant),  # noqa: PLW0108  # made later
            lambda tenant: self.tenants.quotas(tenant).jobs,
        )
        self.conversations = Conversations(data / "conversations", ConversationLimits.of(settings))
        self.pipelines = Pipelines(
            self.router, PipelineLimits(settings.max_pipelines, settings.max_pipelines_per_principal)
        )
        self.tenants = Tenants(
            TenantStore(data),
            Holdings(
                data,
                self.router,
                self.context,
                self.sessions,
                self.jobs,
                self.conversations,
                self.spaces,
                self.pipelines,
                self.tenant_calls,
            ),
            required=settings.tenants_required,
            changed=self._tenant_changed,
            apart=self._keep_apart,
        )
        self.usage = self.tenants.usage
        self.shares.quotas_of = self.tenants.quotas

    def _observe(self, settings: Settings) -> None:
        self.stats = CallStats()
        self._count = self.stats.record
        self.tenant_calls = TenantCalls(settings.metrics_tenants)
        self.tenant_history = History(self.tenant_calls.stats, time.monotonic())
        self.figures = ExecutorFigures()
        self.sampler = Sampler(self.stats, lambda: worker_totals(tallies(self.pool.crew)), self._sampled)
        self.audit = audit_log(settings)
        self.trail = None if self.audit is None else AuditTrail(self.audit)
        self.tracer = _tracer(settings)
        self.log_request = request_log(settings.log_requests)
        mask = self._mask = SecretMask(settings.secrets)
        self.log_tap = LogTap(mask)
        self.failed = FailedCalls(mask, wanted=settings.keep_failed_params)
        self.data_folder = DataFolder(settings.data, settings.disk_warning_bytes)

    def _groups(self, settings: Settings) -> list[GroupSpec]:
        return group_specs(settings)

    def _router(self, settings: Settings, kind: type[Router] = Router) -> Router:
        return kind(
            self.registrations,
            self._record,
            max_calls=settings.max_calls,
            keys=KeyLimits(*self._keys),
            breakers=Breakers(BreakerLimits.of(settings)),
        )

    def _jobs_disk(self, settings: Settings) -> tuple[JobStore, DiskThread]:
        """Where the jobs are, and what writes there."""
        return JobStore(settings.data.absolute() / "jobs"), DiskThread("jobs")

    def _pool(self, settings: Settings, kind: type[ExecutorPool] = ExecutorPool) -> ExecutorPool:
        groups = self._groups(settings)
        pool = kind(
            groups,
            self._route_nested,
            queue_limits=self._queue_limits,
            kill_after=settings.kill_after,
            quarantine=QuarantineLimits(settings.quarantine_kills, settings.quarantine_seconds),
            hand_over=HandOverLimits(settings.hand_over_seconds, settings.rebalance_seconds),
            replacement=ReplacementLimits(settings.finish_seconds, settings.replace),
            technique_of=lambda pipeline_id: self.pipelines.technique_of(pipeline_id),  # noqa: PLW0108  # made later
            shared_collections=SharedNames(settings.shared_collections),
            on_change=self._executors_changed,
            on_reports=reports(self.figures, lambda: self.usage),
        )
        self.process_limits = ProcessLimits(pool.crew, groups, pool.replacements.drain)
        return pool

    def _view(self, settings: Settings) -> HubView:
        return HubView(
            self.pool,
            self.router,
            self.stats,
            time.monotonic(),
            lambda: len(self.context.listeners),
            self.registrations.infos,
            self.registrations.presence,
            self._disk,
            self.sampler.lately,
            lambda: tallies(self.pool.crew),
            lambda: self.router.breakers.words(time.monotonic()),
            HubLimits(settings.max_message_bytes, MAX_DEPTH, settings.max_batch),
            idempotency_epoch=self.router.keys.epoch,
            expiring=list if self.tls is None else self.tls.expiring,
            shared=self.shared_methods,
            tenants=self.tenant_calls,
            tenants_lately=self.tenant_history.samples,
            connections_of=lambda tenant: sum(each.principal.tenant == tenant for each in self.context.listeners),
            calls_of=self._calls_of,
        )

    def _disk(self) -> Disk:
        disk = self.data_folder.look()
        return disk if self.jobs.trouble is None else disk._replace(trouble=self.jobs.trouble)

    def _broker(self, settings: Settings) -> MemoryBroker:
        return MemoryBroker(
            HistoryLimits(settings.history_events, settings.history_seconds, settings.history_bytes),
            time.monotonic,
            time.time,
            PublishKeyLimits(*self._keys),
        )

    def _sessions(self, settings: Settings) -> Resumption:
        table: SessionTable[SessionLink] = SessionTable(
            settings.max_sessions, settings.max_sessions_per_principal, settings.session_seconds
        )
        detached = ByteAccount(settings.detached_bytes, settings.detached_bytes_per_principal)
        return Resumption(table, self._moved, detached, self.view.limits, self.view.hub, self.view.idempotency_epoch)

    def _edge_context(self, settings: Settings) -> EdgeContext:
        own_names = LOOPBACK_NAMES if settings.is_loopback else {settings.host}
        prepare = None if self.credentials.async_hook is None else self.logins.prepare
        return EdgeContext(
            Services(
                self.router,
                self.limits,
                RateLimiter(settings.rate_limit, settings.rate_burst),
                self._opened,
                self._closed,
                self.registrations,
                self.shares,
                RateLimiter(settings.rate_limit_per_tenant),
                self._act_as,
            ),
            AccessRules(
                {*own_names, *settings.allowed_hosts}, settings.allowed_origins, self.logins.authenticate, prepare
            ),
            Flusher(asyncio.get_running_loop()),
            max_connections=settings.max_connections,
            max_message_bytes=settings.max_message_bytes,
            outbox_bytes=settings.outbox_bytes,
            outbox_event_bytes=settings.outbox_event_bytes,
            ping_interval=settings.ping_interval,
            ping_timeout=settings.ping_timeout,
            auth_call=settings.auth_call and not self.credentials.is_open,
            refused=self.refused,
            partial=ByteAccount(
                max(settings.partial_bytes, settings.max_message_bytes),
                max(settings.partial_bytes_per_principal, settings.max_message_bytes),
            ),
        )

    def _principal_of(self, handshake: Handshake) -> Principal:
        return self.tenants.admitted(self.credentials.authenticate(handshake))

    def _act_as(self, gateway: Principal, named: ActAs) -> Principal:
        return self.tenants.admitted(self.credentials.act_as(gateway, named))

    def _keep_apart(self) -> None:
        """Have tenants take turns, and count their calls: there are several from now on."""
        self.pool.take_turns_by_tenant()
        self.registrations.take_turns_by_tenant()
        self.tenant_calls.begin(self.stats)

    def _calls_of(self, tenant: str) -> tuple[int, int]:
        calls = [call for call in self.router.calls() if call.tenant == tenant]
        return len(calls), sum(not call.maybe_executed for call in calls)

    def _tenant_changed(self, tenant: str) -> None:
        self.shares.set_quotas(tenant)
        quotas = self.tenants.quotas(tenant)
        self.pool.quotas.pop(tenant, None)
        if quotas.items or quotas.bytes:
            self.pool.quotas[tenant] = StorageQuotas(quotas.items, quotas.bytes)
        for connection in self.monitor.book.connections():
            if connection.principal.tenant == tenant:
                connection.become(connection.principal)
        self.jobs.wake()

    def _serve_own_methods(self) -> None:
        self.router.handle(control_methods(self.view))
        for part in (
            self.health,
            self.topics,
            TopicHistory(self.spaces),
            self.authentication,
            self.sessions,
            self.registrations,
            CallsInFlight(self.router),
            ExecutorOrders(self.pool.owners, self.pool.replacements),
            TopicList(self.topics),
            self.failed,
            JobCalls(self.jobs),
            ConversationCalls(self.conversations),
            self.pipelines,
            self.tenants,
            CacheCalls(self.pool.broadcasts.send),
        ):
            self.router.handle(part.methods())

    # --- events, passed on to those that observe them ---

    def _record(self, call: Call, method: str | None, seconds: float, code: int) -> None:
        self._count(method, seconds, code, call.waited, call.ran, len(call.params), call.bytes_out)
        if self.usage.is_on:
            self.usage.count(call, code)
            self.tenant_calls.count(call, method, seconds, code, FAILURES)
        if code:
            self.health.note(call, method)
        if self.tracer is not None:
            self.tracer.finished(call, method, seconds, code)
        if self.log_request is not None:
            self.log_request(call, method, seconds, code)
        if self.trail is not None:
            self.trail.ended(call, code, seconds)
        if self.monitor.wants_failures if code else self.monitor.wants_requests:
            self.monitor.finished(call, seconds, code)

    def _sampled(self, sample: Sample) -> None:
        self.router.breakers.look(sample.ended, failed_calls(sample), self.tenant_calls.ended())
        if self.tenant_calls.is_on:
            self.tenant_calls.rank(sample.ended)
            self.tenant_history.take(sample.ended)

    def _opened(self, connection: Connection) -> None:
        self.authentication.opened(connection)
        self.monitor.opened(connection)
        if self.audit is not None:
            self.audit.event("connected", **who(connection))

    def _closed(self, connection: Connection) -> None:
        self.topics.forget(connection)
        self.authentication.closed(connection)
        self.sessions.detached()
        self.registrations.changed(connection)
        self.monitor.closed(connection)
        if self.audit is not None:
            self.audit.event("disconnected", **who(connection))

    def _moved(self, newcomer: Connection, own: Connection) -> None:
        """A session was resumed: the connection made for its new socket is replaced by the session's own."""
        self._closed(newcomer)
        self.topics.forget(own)  # of its former socket, where that has not been missed yet
        self._opened(own)
        asyncio.get_running_loop().call_soon(self.registrations.changed, own)

    def _executors_changed(self) -> None:
        self.registrations.executors_changed()
        self._changed()

    def _authenticated(self, connection: Connection) -> None:
        if self.audit is not None:
            self.audit.event("auth", **who(connection))

    def refused(self, refusal: Refusal) -> None:
        """Record in the audit log that a peer was not let in, and why."""
        if self.audit is not None:
            refused(self.audit, refusal, self._mask)

    def _authenticate_token(self, handshake: Handshake) -> Principal:
        try:
            return self.logins.authenticate(handshake)
        except RpcError as error:
            self.refused(Refusal(handshake.peer, error, token=handshake.token))
            raise

    def answers(self, name: str) -> bool:
        """Whether the hub itself or a client serves a method of this name."""
        return self.router.answers(name)

    def served(self, tenant: str) -> list[MethodInfo]:
        """All methods that are MCP tools of a tenant: the hub's, its clients' and executors'."""
        return [*tools(), *self.registrations.infos(tenant), *self.pool.methods.values()]

    def _route_nested(self, nested: Call) -> None:
        self.router.route(nested)

    def readings(self) -> Readings:
        """The sources that the metrics page reads at each scrape."""
        return Readings(
            self.view,
            self.health,
            self.monitor.book,
            lambda: [listener.traffic() for listener in self.context.listeners],
            self.topics,
            self.fanout,
            self.sessions.table,
            self.registrations,
            lambda: self.broker.total_bytes,
            lambda: self.audit.lost if self.audit is not None else 0,
            lambda: self.pool.quarantine.quarantined(time.monotonic()),
            self._disk,
            self.jobs.counts,
            self.router.breakers,
            self.shares.refused.counts,
            lambda: self.logins.count,
            lambda: None if self.tls is None else self.tls.ends,
        )


def _tracer(settings: Settings) -> Tracer | None:
    try:
        return make_tracer(settings.otlp_endpoint, settings.trace_ratio)
    except ValueError as error:
        raise ConfigurationError(str(error)) from error
