"""The life of a hub: start, reload, drain and stop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import time
from collections.abc import Callable
from typing import Any, Final

from trunkline.background import start_task
from trunkline.config import Settings
from trunkline.edge.acceptor import raise_descriptor_limit
from trunkline.edge.access.credentials import Revocation
from trunkline.edge.access.key_set_url import KeyRefresh
from trunkline.edge.framed.dialects import Speech
from trunkline.edge.framed.stdio import StandardIo
from trunkline.edge.http.mcp import McpDoor
from trunkline.edge.http.server import HttpServer
from trunkline.hosting import served_methods
from trunkline.hosting.app import HubParts
from trunkline.hosting.audited import credentials_in, reloaded
from trunkline.hosting.configuration import Configuration
from trunkline.hosting.http_endpoints import http_server
from trunkline.hosting.listening import listen
from trunkline.hosting.live import stop_seconds
from trunkline.hosting.runtime import ConfigurationError, spare_the_collector
from trunkline.hub.authentication import CREDENTIALS_EXPIRED, NOT_AUTHENTICATED
from trunkline.hub.internal import call
from trunkline_protocol.errors import RpcError

CLOSE_RESTART: Final = 1012
EXECUTOR_STOP_GRACE: Final = 6.0
"""Seconds for executors that run nothing to close what they hold, by themselves limited to five, and to end."""

EXECUTOR_ABORT_GRACE: Final = 1.0
"""The same, where they still ran calls, which are cancelled."""

logger = logging.getLogger("trunkline")


class HubProcess:
    """One hub, as a process runs it.

    Args:
        settings: validated settings.

    Raises:
        ConfigurationError: the settings do not work on this machine.
    """

    def __init__(self, settings: Settings) -> None:
        self._stop_requested = asyncio.Event()
        self._strict = settings.strict
        self._refusal: ConfigurationError | None = None
        self.parts = HubParts(settings, self._executors_changed)
        self._keys: KeyRefresh | None = None
        if settings.jwt_keys_url is not None:
            self._keys = KeyRefresh(settings.jwt_keys_url, settings.jwt_keys_seconds, self._key_set)
            self.parts.credentials.ask_keys = self._keys.ask
        self._configuration = Configuration(self.parts)
        self._known = credentials_in(settings.tokens_file)
        self.parts.router.handle(self._configuration.methods())

    @property
    def settings(self) -> Settings:
        """The settings as they are now."""
        return self.parts.settings

    def _refuse_failed_modules(self) -> None:
        """With ``strict``, stop the hub where its first executors could not load a module; later ones do not count."""
        failures = [failure.words for failure in self.parts.pool.failed_modules]
        if failures and self._strict:
            self._refusal = self._refusal or ConfigurationError("; ".join(failures))
            self.stop()
        elif self.parts.pool.ready:
            self._strict = False

    def _executors_changed(self) -> None:
        self._refuse_failed_modules()
        self.parts.monitor.executors_changed()
        self.parts.jobs.wake()
        self._open_framed_doors()

    def _open_framed_doors(self) -> None:
        """Open the gates of framed peers once the executors are ready, or one of them has failed."""
        if self.parts.pool.ready or any(executor.last_failure for executor in self.parts.pool.snapshot()):
            self.parts.framed.open(self.parts.health.missing())

    def reload(self) -> None:
        """Read settings, TLS certificate, tokens, roles and keys again, and close revoked connections.

        The audit file is opened anew (rotation). Executors are replaced if files of their code have changed.
        """
        parts = self.parts
        start_task(self._reload_changed_code(), "reload of code")
        if parts.audit is not None:
            parts.audit.reopen()  # first: rotation must not depend on the tokens file
        settings, certificate = self._reload_settings(), self._reload_tls()
        try:
            revoked = parts.credentials.reload()
        except (ValueError, OSError) as error:
            logger.error("reload failed, the previous tokens, roles and keys stay in force: %s", error)
            words = f"the previous tokens, roles and keys stay in force: {error}"
            self._audit_reload(settings=settings, **certificate, error=words)
            return
        if self._keys is not None:
            self._keys.refresh()
        closed = self._close_revoked(revoked)
        logger.info("reloaded", extra={"revoked_connections": closed})
        self._audit_reload(settings=settings, **certificate, revoked_connections=closed)

    def _close_revoked(self, revoked: Revocation) -> int:
        """Close the connections, and end the sessions, of principals whose rights are others now. Returns how many."""
        parts = self.parts
        closed = parts.context.close_where(revoked.is_final, NOT_AUTHENTICATED, "your credentials were revoked")
        closed += parts.context.close_where(
            lambda principal: revoked(principal) and not revoked.is_final(principal),
            CREDENTIALS_EXPIRED,
            "your rights have changed; connect again",
        )
        for entry in parts.sessions.table.entries():
            if revoked.is_final(entry.owner.connection.principal):
                parts.sessions.table.end(entry, "revoked")
        return closed

    def _key_set(self, text: str) -> Callable[[str], bool]:
        """Verify JWTs with another key set; connections whose key is gone are closed 4001."""
        credentials = self.parts.credentials
        if closed := self._close_revoked(credentials.use_key_set(text)):
            logger.info("keys of JWTs are gone", extra={"revoked_connections": closed})
        return credentials.has_kid

    def _reload_settings(self) -> str:
        """Read the settings file again; the names of what has changed, or why nothing has."""
        try:
            return ",".join(self._configuration.reload())
        except RpcError as error:
            logger.error("%s; tokens, roles and keys are read again all the same", error.message)
            return f"not changed: {error.message}"

    def _reload_tls(self) -> dict[str, str]:
        """Read the files of TLS again; what the audit says of it: nothing without TLS."""
        if self.parts.tls is None:
            return {}
        try:
            self.parts.tls.reload()
        except ValueError as error:
            logger.error("reload failed, the previous TLS certificate stays in force: %s", error)
            return {"certificate": f"the previous one stays in force: {error}"}
        return {"certificate": "read again"}

    def _audit_reload(self, **outcome: str | int) -> None:
        before = self._known
        if "error" not in outcome:
            self._known = credentials_in(self.settings.tokens_file)
        if self.parts.audit is not None:
            reloaded(self.parts.audit, before, self._known, **outcome)

    async def _reload_changed_code(self) -> None:
        replacements = self.parts.pool.replacements
        changed = await replacements.changed_sources()
        if not changed:
            logger.info("executors not reloaded: their code has not changed")
            return
        with contextlib.suppress(RpcError):  # it is logged, and health tells it
            await replacements.reload()
            logger.info("executors reloaded", extra={"changed": sorted(changed)})
            if self.parts.audit is not None:
                self.parts.audit.event("reload", by="SIGHUP", code=",".join(sorted(changed)))

    async def call(self, method: str, params: Any, *, timeout_ms: int | None = None) -> Any:
        """Call a method of this hub from inside it."""
        return await call(self.parts.router, method, params, timeout_ms=timeout_ms)

    @property
    def stopping(self) -> bool:
        """Whether :meth:`stop` was called."""
        return self._stop_requested.is_set()

    def stop(self) -> None:
        """Begin to stop the hub; :meth:`run` returns when it has stopped."""
        self._stop_requested.set()

    async def run(
        self,
        on_listening: Callable[[list[str]], None],
        standard_io: StandardIo | None = None,
        speech: Speech | None = None,
    ) -> None:
        """Serve until :meth:`stop`, or until the peer at standard input ends its input.

        Args:
            on_listening: called once, with the addresses (``ws://...``, ``unix:...``), when connections are accepted.
            standard_io: a peer to serve as well; there is no TCP port then unless the settings name one.
            speech: framing and dialect of that peer.

        Raises:
            ConfigurationError: an address cannot be bound; with ``strict``, a module cannot be loaded.
        """
        self.parts.log_tap.start()
        try:
            listeners, addresses = listen(
                self.settings,
                self.parts.framed,
                is_open=self.parts.credentials.is_open,
                has_peer=standard_io is not None,
            )

            def listening() -> None:
                logger.info("listening", extra={"addresses": addresses})
                on_listening(addresses)

            await self._serve(listeners, listening, standard_io, speech or Speech())
            if self._refusal is not None:
                raise self._refusal
        finally:
            self.parts.framed.stop()
            self.parts.log_tap.stop()

    async def _serve(
        self,
        listeners: list[socket.socket],
        on_listening: Callable[[], None],
        standard_io: StandardIo | None,
        speech: Speech,
    ) -> None:
        raise_descriptor_limit(self.settings.max_connections)
        server, mcp_door = http_server(self.parts)
        data = self.settings.data.absolute()
        try:
            await asyncio.to_thread(self.parts.tenants.open)
        except RpcError as error:
            raise ConfigurationError(error.message) from error
        self.parts.registrations.expect(await asyncio.to_thread(served_methods.take, data))
        self.parts.pool.start()
        self.parts.process_limits.start()
        if self._keys is not None:
            self._keys.start()
        self.parts.jobs.start()
        self.parts.conversations.start()
        self.parts.tenants.start()
        self.parts.sampler.start()
        self.parts.health.start()
        self.parts.health.probes.start()
        serving = start_task(server.serve(sockets=listeners), "http server")
        while not server.started and not serving.done():
            await asyncio.sleep(0.005)
        if standard_io is not None:
            await self.parts.framed.connect(standard_io, speech, self.stop)
        self._open_framed_doors()
        on_listening()
        spare_the_collector()
        stopping = start_task(self._stop_requested.wait(), "stop")
        await asyncio.wait([serving, stopping], return_when=asyncio.FIRST_COMPLETED)
        await self._shut_down(server, serving, mcp_door)
        stopping.cancel()

    async def _shut_down(self, server: HttpServer, serving: asyncio.Task[None], mcp_door: McpDoor) -> None:
        """Stop in order: refuse new calls, drain those in flight, stop the executors, close connections with 1012."""
        parts = self.parts
        logger.info("stopping", extra={"in_flight": parts.router.in_flight})
        parts.process_limits.stop()
        if self._keys is not None:
            self._keys.stop()
        if parts.credentials.async_hook is not None:
            parts.credentials.async_hook.stop()
        served = parts.registrations.kept()
        await asyncio.to_thread(served_methods.keep, self.settings.data.absolute(), served)
        await parts.jobs.stop()
        drain_seconds, close_seconds = stop_seconds(self.settings)
        left = await parts.router.drain(drain_seconds)
        await parts.pool.stop(EXECUTOR_ABORT_GRACE if left else EXECUTOR_STOP_GRACE)
        server.stop_accepting()
        parts.framed.stop()
        await parts.context.close_all(CLOSE_RESTART, "the hub is stopping", close_seconds)
        deadline = time.monotonic() + 2.5
        while parts.context.listeners and time.monotonic() < deadline:
            await asyncio.sleep(0.01)
        await mcp_door.stop()
        server.should_exit = True
        await serving
        await parts.jobs.close()
        await parts.conversations.close()
        await parts.tenants.close()
        parts.monitor.stop()
        parts.sampler.stop()
        parts.health.stop()
        parts.health.probes.stop()
        parts.sessions.stop()
        if parts.audit is not None:
            parts.audit.close()
        if parts.tracer is not None:
            await asyncio.to_thread(parts.tracer.stop)
        logger.info("stopped")
