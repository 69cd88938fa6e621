"""The composition root: builds one hub from the settings, runs it, and takes it down in order."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import uvicorn

from trunkline.config import Settings
from trunkline.control import HubView, control_methods
from trunkline.control.health import causes_of, check
from trunkline.edge.access import LOOPBACK_NAMES, AccessRules, anonymous, bearer_token
from trunkline.edge.http import http_app
from trunkline.edge.http_protocol import BoundedHttpProtocol
from trunkline.edge.websocket import WebSocketDoor
from trunkline.executors.pool import ExecutorPool
from trunkline.executors.supervisor import ExecutorSpec
from trunkline.hub.internal import call
from trunkline.hub.outbox import Flusher
from trunkline.hub.principal import Authenticate
from trunkline.hub.router import Router
from trunkline.methods.packs import PACKS, installed_packs, missing_modules
from trunkline.observe.metrics import CallStats, MetricsPage
from trunkline_protocol.calls import Call

CLOSE_RESTART: Final = 1012
EXECUTOR_STOP_GRACE: Final = 5.0

logger = logging.getLogger("trunkline")


class ConfigurationError(Exception):
    """Settings that cannot work together; the message says what to do."""


def pack_modules(settings: Settings) -> tuple[str, ...]:
    """The modules executors import: packs, then the user's own.

    Raises:
        ConfigurationError: a pack that is unknown or not installed.
    """
    names = installed_packs() if settings.packs is None else settings.packs
    for name in names:
        if name not in PACKS:
            raise ConfigurationError(f"no pack {name!r}; there are: {', '.join(PACKS)}")
        if missing := missing_modules(name):
            raise ConfigurationError(f"pack {name} needs {', '.join(missing)}: pip install 'trunkline[ml]'")
    return (*(PACKS[name].module for name in names), *settings.methods)


def authentication(settings: Settings) -> Authenticate:
    """The hook the settings ask for.

    Raises:
        ConfigurationError: ``authenticate`` does not name a function.
    """
    if settings.authenticate is not None:
        module, _, name = settings.authenticate.partition(":")
        try:
            hook: Authenticate = getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError, ValueError) as error:
            raise ConfigurationError(f"TRUNKLINE_AUTHENTICATE={settings.authenticate}: {error}") from error
        return hook
    if settings.token is not None:
        return bearer_token(settings.token.get_secret_value())
    return anonymous


def bind(settings: Settings) -> socket.socket:
    """The listening socket.

    Raises:
        ConfigurationError: the address is taken or not ours.
    """
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.host, settings.port))
    except OSError as error:
        listener.close()
        raise ConfigurationError(f"cannot listen on {settings.host}:{settings.port}: {error.strerror}") from error
    listener.listen(2048)
    listener.setblocking(False)
    return listener


class _Server(uvicorn.Server):
    """uvicorn without signal handlers: stopping is the hub's business."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals alone."""
        yield


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
        modules = pack_modules(settings)
        self.pool = ExecutorPool(
            settings.executors if modules else 0,
            self._executor_spec(modules),
            self._route_nested,
            queue_limit=settings.queue_limit,
            kill_after=settings.kill_after,
        )
        self.router = Router(self.pool, self.stats.record)
        self.door = self._websocket_door()
        self.view = HubView(self.pool, self.router, self.stats, self.started, lambda: len(self.door.listeners))
        self.router.serve({method.name: method for method in control_methods(self.view)})
        self._stop_requested = asyncio.Event()

    def _executor_spec(self, modules: tuple[str, ...]) -> ExecutorSpec:
        settings = self.settings
        return ExecutorSpec(
            modules=modules,
            settings={
                "data_dir": str(settings.data.absolute()),
                "model": settings.model,
                "llm_base_url": settings.llm_base_url,
                "llm_model": settings.llm_model,
                "llm_api_key": settings.llm_api_key.get_secret_value() if settings.llm_api_key else None,
                "debug": settings.debug,
            },
            max_concurrency=settings.max_concurrency,
            threads=max(1, available_cpus() // settings.executors),
            start_timeout=settings.start_timeout,
            python_path=(os.getcwd(),) if settings.methods else (),
        )

    def _websocket_door(self) -> WebSocketDoor:
        settings = self.settings
        own_names = LOOPBACK_NAMES if settings.is_loopback else {settings.host}
        access = AccessRules({*own_names, *settings.allowed_hosts}, settings.allowed_origins, authentication(settings))
        return WebSocketDoor(
            self.router,
            access,
            settings.max_message_bytes,
            settings.max_batch,
            settings.outbox_bytes,
            Flusher(asyncio.get_running_loop()),
            set(),
        )

    def _route_nested(self, nested: Call) -> None:
        self.router.route(nested)

    def missing(self) -> list[str]:
        """What is missing until the hub can serve."""
        if self.router.draining:
            return ["the hub is stopping"]
        return [] if self.pool.ready else causes_of(self.view)

    def gauges(self) -> dict[str, dict[str, float]]:
        """Current values for ``/metrics``."""
        executors = self.pool.snapshot()
        states: dict[str, float] = dict.fromkeys(("starting", "ready", "busy", "down", "stopping"), 0)
        for executor in executors:
            states[executor["status"]] += 1
        return {
            "trunkline_connections": {"": len(self.door.listeners)},
            "trunkline_calls_in_flight": {"": self.router.in_flight},
            "trunkline_calls_waiting": {"": self.pool.waiting},
            "trunkline_executors": states,
            "trunkline_executor_restarts": {executor["worker_id"]: executor["restarts"] for executor in executors},
        }

    async def call(self, method: str, params: Any, *, timeout_ms: int | None = None) -> Any:
        """Call a method of this hub from inside it."""
        return await call(self.router, method, params, timeout_ms=timeout_ms)

    def stop(self) -> None:
        """Begin to stop; :meth:`run` returns when that is done."""
        self._stop_requested.set()

    async def run(self, on_listening: Callable[[str, int], None]) -> None:
        """Serve until :meth:`stop`.

        Args:
            on_listening: called with host and port once connections are accepted.

        Raises:
            ConfigurationError: the address cannot be listened on.
        """
        listener = bind(self.settings)
        server = self._server()
        self.pool.start()
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        while not server.started and not serving.done():
            await asyncio.sleep(0.005)
        host, port = listener.getsockname()[:2]
        logger.info("listening", extra={"host": host, "port": port})
        on_listening(host, port)
        stopping = asyncio.create_task(self._stop_requested.wait())
        await asyncio.wait([serving, stopping], return_when=asyncio.FIRST_COMPLETED)
        await self._shut_down(server, serving)
        stopping.cancel()

    def _server(self) -> uvicorn.Server:
        app = http_app(
            self.door.access,
            lambda: check(self.view),
            self.missing,
            MetricsPage(self.stats, self.gauges).render,
        )
        config = uvicorn.Config(
            app,
            ws=self.door.protocol,  # type: ignore[arg-type]  # a factory serves as well as a class
            http=BoundedHttpProtocol,
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=2,
        )
        return _Server(config)

    async def _shut_down(self, server: uvicorn.Server, serving: asyncio.Task[None]) -> None:
        """Not ready, no new calls; let those in flight finish; close 1012; stop the executors."""
        logger.info("stopping", extra={"in_flight": self.router.in_flight})
        left = await self.router.drain(self.settings.drain_seconds)
        await self.pool.stop(0.0 if left else EXECUTOR_STOP_GRACE)
        self.door.close_all(CLOSE_RESTART, "the hub is stopping")
        deadline = time.monotonic() + 2.5
        while self.door.listeners and time.monotonic() < deadline:
            await asyncio.sleep(0.01)
        server.should_exit = True
        await serving
        logger.info("stopped")


def available_cpus() -> int:
    """CPUs this process may use, the cgroup's quota included."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with contextlib.suppress(OSError, ValueError):
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        if quota != "max":
            count = min(count, max(1, int(int(quota) / int(period))))
    return count


def handle_signals(hub: Hub) -> None:
    """SIGTERM and SIGINT stop in order; the second one stops at once."""
    loop = asyncio.get_running_loop()
    asked = False

    def on_signal() -> None:
        nonlocal asked
        if asked:
            logger.warning("stopping at once")
            os._exit(130)
        asked = True
        hub.stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)


def event_loop_runner() -> Callable[..., Any]:
    """uvloop's ``run`` where it is installed, else asyncio's."""
    try:
        import uvloop
    except ImportError:
        return asyncio.run
    return uvloop.run


if sys.platform == "win32":
    raise ImportError("Trunkline runs on Linux and macOS; on Windows use WSL")
