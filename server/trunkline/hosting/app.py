"""The composition root: builds one hub from the settings, runs it, and takes it down in order."""

from __future__ import annotations

import asyncio
import functools
import logging
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import uvicorn

from trunkline.background import start_task
from trunkline.broker.keys import PublishKeyLimits
from trunkline.broker.memory import HistoryLimits, MemoryBroker
from trunkline.config import Settings
from trunkline.control import HubView, control_methods
from trunkline.control.audit_trail import audit
from trunkline.control.calls import CallsInFlight
from trunkline.control.documents import documents
from trunkline.control.executors import ExecutorOrders
from trunkline.control.failures import FailedCalls
from trunkline.control.health import causes_of, check, heading
from trunkline.control.jobs import JobCalls
from trunkline.control.method import listed_methods
from trunkline.control.monitoring import Monitor
from trunkline.control.readings import Readings
from trunkline.control.requests import request_log
from trunkline.control.sampling import Sampler
from trunkline.control.services import detailed_services
from trunkline.control.topic_list import TopicList
from trunkline.control.tracing import make_tracer
from trunkline.edge.acceptor import raise_descriptor_limit
from trunkline.edge.access.rules import LOOPBACK_NAMES, AccessRules
from trunkline.edge.framed.doors import FramedDoors, Speech
from trunkline.edge.framed.stdio import StandardIo
from trunkline.edge.http import mcp
from trunkline.edge.http.application import Pages, http_app
from trunkline.edge.http.doors import call_doors
from trunkline.edge.http.exchange import exchange_services
from trunkline.edge.http.mcp import McpDoor
from trunkline.edge.http.protocol import BoundedHttpProtocol
from trunkline.edge.http.request_head import RequestHeads
from trunkline.edge.http.server import HttpServer
from trunkline.edge.websocket import phoenix
from trunkline.edge.websocket.door import WebSocketDoor
from trunkline.edge.websocket.endpoints import endpoints
from trunkline.edge.websocket.upgrade import UpgradeProtocol
from trunkline.executors.handover import HandOverLimits
from trunkline.executors.pool import ExecutorPool
from trunkline.executors.quarantine import QuarantineLimits
from trunkline.hosting.admission import credentials
from trunkline.hosting.executor_settings import executor_spec, pack_modules
from trunkline.hosting.listening import listen
from trunkline.hosting.runtime import ConfigurationError, spare_the_collector
from trunkline.hub.authentication import CREDENTIALS_EXPIRED, NOT_AUTHENTICATED, Authentication
from trunkline.hub.byte_account import ByteAccount
from trunkline.hub.connection import Connection, Services
from trunkline.hub.fanout import Fanout
from trunkline.hub.idempotency import KeyLimits
from trunkline.hub.internal import call
from trunkline.hub.limits import Limits, RateLimiter
from trunkline.hub.outbox import Flusher
from trunkline.hub.registrations import Registrations
from trunkline.hub.resumption import Resumption
from trunkline.hub.router import Router
from trunkline.hub.session_link import SessionLink
from trunkline.hub.sessions import SessionTable
from trunkline.hub.subscriptions import Subscriptions
from trunkline.jobs.limits import JobLimits
from trunkline.jobs.service import Jobs
from trunkline.observe.audit import AuditLog
from trunkline.observe.figures import ExecutorFigures
from trunkline.observe.metrics import CallStats
from trunkline.observe.page import MetricsPage
from trunkline.observe.secrets import SecretMask
from trunkline.observe.tap import LogTap
from trunkline.version import __version__
from trunkline_protocol.backlog import QueueLimits
from trunkline_protocol.calls import Call
from trunkline_protocol.catalogue import MethodInfo
from trunkline_protocol.depth import MAX_DEPTH
from trunkline_protocol.errors import RpcError
from trunkline_protocol.hub_methods import METHODS
from trunkline_protocol.messages import HubLimits

if TYPE_CHECKING:
    from trunkline.observe.tracing import Tracer

CLOSE_RESTART: Final = 1012
EXECUTOR_STOP_GRACE: Final = 5.0
KEEP_ALIVE_SECONDS: Final = 75
"""How long an HTTP connection may be idle: longer than the pools of common clients and proxies keep theirs."""

logger = logging.getLogger("trunkline")


class Hub:
    """One hub: pool, router, doors.

    Args:
        settings: validated settings.

    Raises:
        ConfigurationError: the settings do not work on this machine.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.started = time.monotonic()
        self.stats = CallStats()
        self.figures = ExecutorFigures()
        self.sampler = Sampler(self.stats)
        self._count = self.stats.record
        self._stop_requested = asyncio.Event()
        self._strict = settings.strict
        self._refusal: ConfigurationError | None = None
        self.credentials = credentials(settings)
        self.audit = _audit_log(settings.audit_file)
        self.tracer = _tracer(settings)
        self._log_request = request_log(settings.log_requests)
        modules = pack_modules(settings)
        queue_limits = QueueLimits(settings.queue_limit, settings.queue_limit_per_connection, settings.queue_bytes)
        self.pool = ExecutorPool(
            settings.executors if modules else 0,
            executor_spec(settings, modules),
            self._route_nested,
            queue_limits=queue_limits,
            kill_after=settings.kill_after,
            quarantine=QuarantineLimits(settings.quarantine_kills, settings.quarantine_seconds),
            hand_over=HandOverLimits(settings.hand_over_seconds, settings.rebalance_seconds),
            on_change=self._executors_changed,
            on_figures=self.figures.update,
        )
        self.registrations = Registrations(self.pool, queue_limits)
        keys = (settings.idempotency_keys, settings.idempotency_keys_per_principal)
        self.router = Router(self.registrations, self._record, max_calls=settings.max_calls, keys=KeyLimits(*keys))
        self.router.tracer = self.tracer
        self.view = HubView(
            self.pool,
            self.router,
            self.stats,
            self.started,
            lambda: len(self.door.listeners),
            self.registrations.infos,
            self.sampler.lately,
            HubLimits(settings.max_message_bytes, MAX_DEPTH, settings.max_batch),
        )
        mask = SecretMask(settings.secrets)
        self.log_tap, self.failed = LogTap(mask), FailedCalls(mask, wanted=settings.keep_failed_params)
        self.monitor = Monitor(self.view, lambda: self.topics, self.log_tap, self.failed)
        limits = Limits(
            max_batch=settings.max_batch,
            max_calls_per_connection=settings.max_calls_per_connection,
            max_subscriptions=settings.max_subscriptions,
            max_subscriptions_per_principal=settings.max_subscriptions_per_principal,
        )
        self.broker = MemoryBroker(
            HistoryLimits(settings.history_events, settings.history_seconds, settings.history_bytes),
            time.monotonic,
            time.time,
            PublishKeyLimits(*keys),
        )
        serves = (self.router.route, self.pool.find, self._answers)
        self.jobs = Jobs(settings.data.absolute() / "jobs", *serves, self.broker, JobLimits.of(settings))
        self.fanout = Fanout(asyncio.get_running_loop().call_soon, time.monotonic, lambda: self.router.in_flight > 0)
        self.topics = Subscriptions(self.broker, self.fanout, limits, self.monitor.interest_changed)
        self.authentication = Authentication(
            self.credentials.authenticate_token, settings.auth_seconds, self._authenticated
        )
        table: SessionTable[SessionLink] = SessionTable(
            settings.max_sessions, settings.max_sessions_per_principal, settings.session_seconds
        )
        detached = ByteAccount(settings.detached_bytes, settings.detached_bytes_per_principal)
        self.sessions = Resumption(table, self._moved, detached, self.view.limits, self.view.hub)
        self.door = self._websocket_door(limits)
        self.framed = FramedDoors(self.door, __version__)
        self.router.handle(control_methods(self.view))
        self.router.handle(self.topics.methods() | self.authentication.methods() | self.sessions.methods())
        self.router.handle(self.registrations.methods() | CallsInFlight(self.router).methods())
        self.router.handle(ExecutorOrders(self.pool.owners).methods())
        self.router.handle(TopicList(self.topics).methods() | self.failed.methods() | JobCalls(self.jobs).methods())

    def _websocket_door(self, limits: Limits) -> WebSocketDoor:
        settings = self.settings
        own_names = LOOPBACK_NAMES if settings.is_loopback else {settings.host}
        return WebSocketDoor(
            Services(
                self.router,
                limits,
                RateLimiter(settings.rate_limit, settings.rate_burst),
                self._opened,
                self._closed,
                self.registrations,
            ),
            AccessRules({*own_names, *settings.allowed_hosts}, settings.allowed_origins, self.credentials.authenticate),
            Flusher(asyncio.get_running_loop()),
            max_connections=settings.max_connections,
            max_message_bytes=settings.max_message_bytes,
            outbox_bytes=settings.outbox_bytes,
            outbox_event_bytes=settings.outbox_event_bytes,
            ping_interval=settings.ping_interval,
            ping_timeout=settings.ping_timeout,
            auth_call=settings.auth_call and not self.credentials.is_open,
            refused=self._refused,
            partial=ByteAccount(
                max(settings.partial_bytes, settings.max_message_bytes),
                max(settings.partial_bytes_per_principal, settings.max_message_bytes),
            ),
            endpoints=endpoints() | {phoenix.PATH: phoenix.PhoenixEndpoint(settings.max_channels)},
        )

    # --- what happens, and who wants to know ---

    def _record(self, call: Call, method: str | None, seconds: float, code: int) -> None:
        self._count(method, seconds, code, call.waited, call.ran, len(call.params), call.bytes_out)
        if self.tracer is not None:
            self.tracer.finished(call, method, seconds, code)
        if self._log_request is not None:
            self._log_request(call, method, seconds, code)
        if self.audit is not None:
            audit(self.audit, call, code, seconds)
        if self.monitor.wants_failures if code else self.monitor.wants_requests:
            self.monitor.finished(call, seconds, code)

    def _opened(self, connection: Connection) -> None:
        self.authentication.opened(connection)
        self.monitor.opened(connection)
        if self.audit is not None:
            self.audit.event("connected", **_who(connection))

    def _closed(self, connection: Connection) -> None:
        self.topics.forget(connection)
        self.authentication.closed(connection)
        self.sessions.detached()
        self.registrations.changed(connection)
        self.monitor.closed(connection)
        if self.audit is not None:
            self.audit.event("disconnected", **_who(connection))

    def _moved(self, newcomer: Connection, own: Connection) -> None:
        """A session goes on: the connection made for its new socket gives way to the one it has."""
        self._closed(newcomer)
        self._opened(own)
        asyncio.get_running_loop().call_soon(self.registrations.changed, own)

    def _authenticated(self, connection: Connection) -> None:
        if self.audit is not None:
            self.audit.event("auth", **_who(connection))

    def _refused(self, peer: str, error: RpcError) -> None:
        if self.audit is not None:
            self.audit.event("refused", peer=peer, outcome=error.name, code=error.code)

    def _answers(self, name: str) -> bool:
        return self.router.answers(name)

    def _refuse_failed_modules(self) -> None:
        """With ``strict``: stop where the first executors could not load something. Later ones do not end the hub."""
        failures = self.pool.module_failures()
        if failures and self._strict:
            self._refusal = self._refusal or ConfigurationError("; ".join(failures))
            self.stop()
        elif self.pool.ready:
            self._strict = False

    def _executors_changed(self) -> None:
        self._refuse_failed_modules()
        self.monitor.executors_changed()
        self.jobs.wake()
        self._open_framed_doors()

    def _open_framed_doors(self) -> None:
        """Framed peers wait for the first moment at which executors are warm, or have failed to be."""
        if self.pool.ready or any(executor["last_failure"] for executor in self.pool.snapshot()):
            self.framed.open(self.missing())

    def reload(self) -> None:
        """Read tokens, roles and keys again, close who was revoked, reopen the audit file (log rotation)."""
        if self.audit is not None:
            self.audit.reopen()  # first: rotation must not depend on the tokens file
        try:
            revoked = self.credentials.reload()
        except (ValueError, OSError) as error:
            logger.error("nothing was reloaded: %s", error)
            return
        closed = self.door.close_where(revoked.is_final, NOT_AUTHENTICATED, "your credentials were revoked")
        closed += self.door.close_where(
            lambda principal: revoked(principal) and not revoked.is_final(principal),
            CREDENTIALS_EXPIRED,
            "your rights have changed; connect again",
        )
        for entry in self.sessions.table.entries():
            if revoked.is_final(entry.owner.connection.principal):
                self.sessions.table.end(entry, "revoked")
        logger.info("reloaded", extra={"revoked_connections": closed})

    def _served(self) -> list[MethodInfo]:
        """What is a tool of MCP."""
        own = (info for info in listed_methods() if METHODS[info.name].is_tool)
        return [*own, *self.registrations.infos(), *self.pool.methods.values()]

    def _route_nested(self, nested: Call) -> None:
        self.router.route(nested)

    def missing(self) -> list[str]:
        """What is missing until the hub can serve."""
        if self.router.draining:
            return ["the hub is stopping"]
        return [] if self.pool.serving else causes_of(self.view)

    def _readings(self) -> Readings:
        return Readings(
            self.view,
            self.monitor.book,
            lambda: [listener.traffic() for listener in self.door.listeners],
            self.topics,
            self.fanout,
            self.sessions.table,
            self.registrations,
            lambda: self.broker.history_bytes,
            lambda: self.audit.lost if self.audit is not None else 0,
            lambda: self.pool.quarantined,
            self.jobs.counts,
        )

    async def call(self, method: str, params: Any, *, timeout_ms: int | None = None) -> Any:
        """Call a method of this hub from inside it."""
        return await call(self.router, method, params, timeout_ms=timeout_ms)

    @property
    def stopping(self) -> bool:
        """Whether :meth:`stop` was called."""
        return self._stop_requested.is_set()

    def stop(self) -> None:
        """Begin to stop; :meth:`run` returns when that is done."""
        self._stop_requested.set()

    async def run(
        self,
        on_listening: Callable[[list[str]], None],
        standard_io: StandardIo | None = None,
        speech: Speech | None = None,
    ) -> None:
        """Serve until :meth:`stop`, or until the peer at standard input is done.

        Args:
            on_listening: called with the addresses once connections are accepted: ``ws://...``, ``unix:...``.
            standard_io: a peer to serve, too; then there is no TCP port unless the settings name one.
            speech: its framing and dialect.

        Raises:
            ConfigurationError: an address cannot be listened on; with ``strict``, a module cannot be loaded.
        """
        self.log_tap.start()
        try:
            listeners, addresses = listen(
                self.settings, self.framed, is_open=self.credentials.is_open, has_peer=standard_io is not None
            )

            def listening() -> None:
                logger.info("listening", extra={"addresses": addresses})
                on_listening(addresses)

            await self._serve(listeners, listening, standard_io, speech or Speech())
            if self._refusal is not None:
                raise self._refusal
        finally:
            self.framed.stop()
            self.log_tap.stop()

    async def _serve(
        self,
        listeners: list[socket.socket],
        on_listening: Callable[[], None],
        standard_io: StandardIo | None,
        speech: Speech,
    ) -> None:
        raise_descriptor_limit(self.settings.max_connections)
        server = self._server()
        self.pool.start()
        self.jobs.start()
        self.sampler.start()
        serving = start_task(server.serve(sockets=listeners), "http server")
        while not server.started and not serving.done():
            await asyncio.sleep(0.005)
        if standard_io is not None:
            await self.framed.connect(standard_io, speech, self.stop)
        self._open_framed_doors()
        on_listening()
        spare_the_collector()
        stopping = start_task(self._stop_requested.wait(), "stop")
        await asyncio.wait([serving, stopping], return_when=asyncio.FIRST_COMPLETED)
        await self._shut_down(server, serving)
        stopping.cancel()

    def _server(self) -> HttpServer:
        pages = Pages(
            lambda: check(self.view),
            lambda: detailed_services(self.view),
            lambda: [heading(cause) for cause in self.missing()],
            MetricsPage(self.stats, self._readings(), self.figures.collect).render,
            documents(self.view),
        )
        doors = call_doors(self.door, self.router, self.authentication, lambda: self.pool.methods)
        self.mcp = McpDoor(
            self.door, exchange_services(self.door.services, self.authentication), self._served, __version__
        )
        doors[mcp.PATH] = self.mcp
        app = http_app(self.door.access, pages, doors, self.settings.allowed_origins)
        heads = RequestHeads(self.settings.trusted_proxies, is_open=self.credentials.is_open, refused=self._refused)
        config = uvicorn.Config(
            app,
            ws=functools.partial(UpgradeProtocol, self.door, heads),  # type: ignore[arg-type]  # a factory serves, too
            http=functools.partial(BoundedHttpProtocol, heads=heads),  # type: ignore[arg-type]
            proxy_headers=False,  # uvicorn would believe any process of this machine, at some doors alone
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=2,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
        )
        return HttpServer(config)

    async def _shut_down(self, server: HttpServer, serving: asyncio.Task[None]) -> None:
        """Not ready, no new calls; let those in flight finish; close 1012; stop the executors."""
        logger.info("stopping", extra={"in_flight": self.router.in_flight})
        await self.jobs.stop()
        left = await self.router.drain(self.settings.drain_seconds)
        await self.pool.stop(0.0 if left else EXECUTOR_STOP_GRACE)
        server.stop_accepting()
        self.framed.stop()
        await self.door.close_all(CLOSE_RESTART, "the hub is stopping", self.settings.close_seconds)
        deadline = time.monotonic() + 2.5
        while self.door.listeners and time.monotonic() < deadline:
            await asyncio.sleep(0.01)
        await self.mcp.stop()
        server.should_exit = True
        await serving
        await self.jobs.close()
        self.monitor.stop()
        self.sampler.stop()
        self.sessions.stop()
        if self.audit is not None:
            self.audit.close()
        if self.tracer is not None:
            await asyncio.to_thread(self.tracer.stop)
        logger.info("stopped")


def _tracer(settings: Settings) -> Tracer | None:
    try:
        return make_tracer(settings.otlp_endpoint, settings.trace_ratio)
    except ValueError as error:
        raise ConfigurationError(str(error)) from error


def _audit_log(path: Path | None) -> AuditLog | None:
    try:
        return None if path is None else AuditLog(path)
    except ValueError as error:
        raise ConfigurationError(str(error)) from error


def _who(connection: Connection) -> dict[str, Any]:
    return {"principal": connection.principal.name, "connection": connection.number, "peer": connection.peer}
