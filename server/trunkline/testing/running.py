"""One hub, from its start to its end, in the loop of whoever starts it: the real parts, and an executor in memory."""

from __future__ import annotations

import asyncio
import socket
from typing import Final

from typing_extensions import override

from trunkline.config import Settings
from trunkline.executors.queueing import DEFAULT_GROUP
from trunkline.executors.specs import ExecutorSpec, GroupSpec
from trunkline.hosting.app import HubParts
from trunkline.hosting.http_endpoints import http_server
from trunkline.hub.principal import Handshake, Principal
from trunkline.hub.router import Router
from trunkline.methods.registry import Registry
from trunkline.testing.executor import MemoryExecutor
from trunkline.testing.script import MockRouter, Script
from trunkline.testing.wires import WiredServer, Wires

CLOSE_RESTART: Final = 1012
GOODBYE_SECONDS: Final = 1.0
"""Seconds that clients get to answer the close frame of a hub that stops."""


class _Parts(HubParts):
    """The parts of a hub with one executor, which is in memory, whose calls and connections a script watches over."""

    def __init__(self, settings: Settings, script: Script) -> None:
        self._script = script
        super().__init__(settings, self._executor_changed)

    def _executor_changed(self) -> None:
        self.monitor.executors_changed()
        self.jobs.wake()

    @override
    def _groups(self, settings: Settings) -> list[GroupSpec]:
        spec = ExecutorSpec((), max_concurrency=settings.max_concurrency, in_process=True)
        return [GroupSpec(DEFAULT_GROUP, spec, 1)]

    @override
    def _router(self, settings: Settings, kind: type[Router] = MockRouter) -> Router:
        router = super()._router(settings, kind)
        assert isinstance(router, MockRouter)
        router.script = self._script
        return router

    @override
    def _principal_of(self, handshake: Handshake) -> Principal:
        self._script.admit()
        return super()._principal_of(handshake)


class RunningHub:
    """A hub that accepts connections from :meth:`start` to :meth:`end`.

    Args:
        settings: of the hub.
        registry: the methods of its executor.
        listener: stays open when this hub stops; clients that connect then wait for the next one.
    """

    def __init__(
        self, settings: Settings, registry: Registry, script: Script, wires: Wires, listener: socket.socket
    ) -> None:
        self.parts = parts = _Parts(settings, script)
        self.executor = MemoryExecutor(parts.pool.executors[0], registry, settings.max_concurrency)
        server, self._mcp_door = http_server(parts)
        self._server = WiredServer(server.config, wires)
        self._listener = listener

    def start(self) -> None:
        """Begin to accept connections."""
        self.executor.announce()
        parts, config = self.parts, self._server.config
        parts.tenants.open()
        parts.jobs.start()
        parts.conversations.start()
        parts.tenants.start()
        parts.sampler.start()
        parts.health.start()
        if not config.loaded:
            config.load()
        self._server.lifespan = config.lifespan_class(config)
        self._server.accept([self._listener.dup()])

    def end(self) -> None:
        """Stop as a hub does whose time to drain is over: settle the calls that run, and close the connections."""
        parts = self.parts
        parts.router.draining = True
        self._pool_stopped = parts.pool.stop(0)
        self._server.stop_accepting()
        for listener in tuple(parts.context.listeners):
            listener.close(CLOSE_RESTART, "the hub is stopping")

    async def finish(self) -> None:
        """Wait until all that ran is over, and release what the hub holds. To be called after :meth:`end`."""
        parts, loop = self.parts, asyncio.get_running_loop()
        await parts.jobs.stop()
        deadline = loop.time() + GOODBYE_SECONDS
        while parts.context.listeners and loop.time() < deadline:
            await asyncio.sleep(0.001)
        await self._mcp_door.stop()
        for connection in tuple(self._server.server_state.connections):  # uvicorn's own shutdown takes 0.1 s
            connection.shutdown()
        await self._pool_stopped
        await self.executor.close()
        await parts.jobs.close()
        await parts.conversations.close()
        await parts.tenants.close()
        parts.monitor.stop()
        parts.sampler.stop()
        parts.health.stop()
        parts.sessions.stop()
        if parts.audit is not None:
            await asyncio.to_thread(parts.audit.close)
