"""The mock hub: what tests start, call, and inject faults into."""

from __future__ import annotations

import asyncio
import dataclasses
import socket
import tempfile
import threading
from collections.abc import Callable, Mapping
from types import ModuleType, TracebackType
from typing import Any, Final, Self, TypeVar

import msgspec

from trunkline.background import start_task
from trunkline.client import Position, Reconnect, SyncHub, connect, connect_sync
from trunkline.client.hub import Connecting
from trunkline.config import GivenSettings, Settings
from trunkline.hosting.executor_settings import pack_settings
from trunkline.hosting.runtime import bind
from trunkline.hub import internal
from trunkline.methods.declaration import MethodOptions, RegistrationError, unfit
from trunkline.methods.marks import MARK
from trunkline.methods.registry import Registry
from trunkline.methods.wire_values import encode
from trunkline.testing.running import RunningHub
from trunkline.testing.script import MockCall, Script
from trunkline.testing.wires import Wires
from trunkline_protocol.errors import RpcError
from trunkline_protocol.hub_methods import PUBLISH

PACK: Final = "mock"
QUICK: Final = Reconnect(min_delay=0.001, max_delay=0.01)

Result = TypeVar("Result")


class MockHub:
    """A hub in this process, on a free port of the loopback, for the length of a ``with`` or ``async with`` block.

    It is the real hub: what it answers, refuses and limits is what a hub of its own process would. Its methods are your
    functions, bound to params and checked by their hints as those of executors are; and faults come on command.

    >>> async with MockHub() as mock:
    ...     mock.method("text.upper", lambda text: text.upper())
    ...     async with mock.connect() as hub:
    ...         assert await hub.call("text.upper", {"text": "a"}) == "A"

    With ``async with`` it runs on the loop of the test, with ``with`` in a thread of its own, for programs without a
    loop. Everything but :meth:`connect` and :meth:`call` may be called from any thread.

    Args:
        modules: modules with ``@method`` functions, whose methods it serves as well. They are loaded at the start.
        pack_settings: what their ``load`` steps get, beside what they would get in an executor.
        settings: of the hub, by their names on the page of settings: ``token="secret"``. Neither the environment nor a
            file has a say.

    Raises:
        RegistrationError: a module cannot be served.
        ValueError: a setting is unknown, or its value is not valid (pydantic's ValidationError).

    Attributes:
        calls: what clients called so far, the oldest first, without the hub's own methods.
    """

    def __init__(self, *modules: ModuleType, pack_settings: Mapping[str, Any] | None = None, **settings: Any) -> None:
        given: dict[str, Any] = {"executors": 0, "packs": ()} | settings
        self._settings: Settings = GivenSettings(**given)
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._pack_settings = dict(pack_settings or {})
        self._registry = Registry()
        for module in modules:
            self._registry.add_module(module)
        self._script = Script()
        self._wires = Wires()
        self._listener: socket.socket | None = None
        self._hub: RunningHub | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._ending: set[asyncio.Task[None]] = set()

    # --- its life ---

    async def __aenter__(self) -> Self:
        if self._loop is not None:
            raise RuntimeError("the mock hub runs already")
        self._folder = tempfile.TemporaryDirectory(prefix="trunkline-mock-")
        if "data" not in self._settings.model_fields_set:
            self._settings = self._settings.with_changes({"data": self._folder.name})
        self._listener = bind("127.0.0.1", 0)
        self._loop = asyncio.get_running_loop()
        try:
            hub = self._made()
            settings = pack_settings(self._settings) | self._pack_settings
            await self._registry.load(settings, hub.executor.context)
            self._start(hub)
        except BaseException:
            self._release()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()
        if self._ending:
            await asyncio.wait(self._ending)
        self._wires.cut()
        failure = await self._registry.close()
        self._release()
        if failure is not None:
            raise failure

    def _release(self) -> None:
        assert self._listener is not None
        assert self._folder is not None
        self._listener.close()
        self._folder.cleanup()
        self._hub = self._loop = self._listener = self._folder = None

    def __enter__(self) -> Self:
        started: threading.Event = threading.Event()
        loop = asyncio.new_event_loop()

        def run() -> None:
            asyncio.set_event_loop(loop)
            loop.call_soon(started.set)
            loop.run_forever()

        self._thread = threading.Thread(target=run, name="trunkline-mock", daemon=True)
        self._thread.start()
        started.wait()
        try:
            asyncio.run_coroutine_threadsafe(self.__aenter__(), loop).result()
        except BaseException:
            self._leave_thread(loop)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._loop is not None
        loop = self._loop
        try:
            asyncio.run_coroutine_threadsafe(self.__aexit__(kind, error, trace), loop).result()
        finally:
            self._leave_thread(loop)

    def _leave_thread(self, loop: asyncio.AbstractEventLoop) -> None:
        assert self._thread is not None
        asyncio.run_coroutine_threadsafe(loop.shutdown_asyncgens(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        self._thread.join()
        self._thread = None
        loop.close()

    def _made(self) -> RunningHub:
        assert self._listener is not None
        return RunningHub(self._settings, self._registry, self._script, self._wires, self._listener)

    def _start(self, hub: RunningHub) -> None:
        self._hub = hub
        hub.start()

    def _end(self) -> None:
        if self._hub is not None:
            self._hub.end()
            ending = start_task(self._hub.finish(), "a mock hub's end")
            self._ending.add(ending)
            ending.add_done_callback(self._ending.discard)

    def _on_loop(self, work: Callable[[], Result]) -> Result:
        """The result of a function that is run on the hub's loop, whatever thread this is."""
        loop = self._loop
        if loop is None:
            raise RuntimeError("the mock hub does not run: use it in `async with MockHub() as mock:`, or `with`")
        if _running_loop() is loop:
            return work()

        async def run() -> Result:
            return work()

        return asyncio.run_coroutine_threadsafe(run(), loop).result()

    def _running(self) -> RunningHub:
        assert self._hub is not None
        return self._hub

    # --- connections ---

    @property
    def url(self) -> str:
        """Where the code under test connects to, the same all the time: ``ws://127.0.0.1:PORT/ws``."""
        if self._listener is None:
            raise RuntimeError("the mock hub does not run: use it in `async with MockHub() as mock:`, or `with`")
        return f"ws://127.0.0.1:{self._listener.getsockname()[1]}/ws"

    def connect(self, **options: Any) -> Connecting:
        """A client of this hub, as :func:`trunkline.connect`, which reconnects within milliseconds by default."""
        return connect(self.url, **{"reconnect": QUICK} | options)

    def connect_sync(self, **options: Any) -> SyncHub:
        """A client of this hub for tests without a loop, as :func:`trunkline.connect_sync`.

        Raises:
            RuntimeError: this is the loop's own thread, which would wait for itself.
        """
        if self._loop is not None and _running_loop() is self._loop:
            raise RuntimeError(
                "connect_sync would block the loop that the mock hub runs on: use `with MockHub() as mock:`, or call "
                "it in asyncio.to_thread"
            )
        return connect_sync(self.url, **{"reconnect": QUICK} | options)

    @property
    def connections(self) -> int:
        """How many clients are connected now, whatever their transport."""
        return self._on_loop(lambda: len(self._running().parts.context.listeners))

    # --- methods, calls, events ---

    @property
    def calls(self) -> list[MockCall]:
        """What clients called so far, the oldest first, without the hub's own methods. May be cleared."""
        return self._script.calls

    def method(
        self, name: str, function: Callable[..., Any], *, idempotent: bool = False, timeout_ms: int | None = None
    ) -> Self:
        """Serve a function under a name, in the place of what has it already; before the start, and at any time.

        It is served as a function of a pack is (docs/methods.md): its parameters are the params, checked by their
        hints; one annotated :class:`trunkline.Context` or :class:`trunkline.InputStream` gets that. ``async def`` runs
        on the loop, a plain function on a thread, generators are streams. An :class:`RpcError` that it raises reaches
        the caller, anything else as -32603, with its text in the log.

        Args:
            function: if ``@method`` marks it, with what that says, but for the name.
            idempotent: what ``@method(idempotent=...)`` says.
            timeout_ms: the method's default deadline.

        Raises:
            RegistrationError: it cannot be served: the hub's own name, ``**kwargs``, hints that have no form in JSON.
        """
        if (why := unfit(name)) is not None:
            raise RegistrationError(f"mock.method({name!r:.200}): {why}; choose another name")
        marked = getattr(function, MARK, None)
        options = MethodOptions(name, idempotent, None, timeout_ms, None)
        if isinstance(marked, MethodOptions):
            options = dataclasses.replace(marked, name=name)

        def put() -> None:
            self._registry.put(function, options, PACK)
            if self._hub is not None:
                self._hub.executor.announce()

        if self._loop is None:
            put()
        else:
            self._on_loop(put)
        return self

    def publish(self, topic: str, data: Any) -> Position:
        """Publish an event, and return its position. Its publisher is the hub, whose name is empty.

        Raises:
            RpcError: -32602, an invalid topic or data that is no JSON; 6002, one of the hub's own topics.
        """
        stored = msgspec.json.decode(self._on_loop(lambda: self._publish(topic, data)))
        return Position(stored["epoch"], stored["offset"])

    def _publish(self, topic: str, data: Any) -> bytes:
        params = encode({"topic": topic, "data": data}, "mock.publish was given")
        call = internal.InternalCall(PUBLISH.name, params, b"")
        self._running().parts.router.route(call)
        return call.future.result()  # the broker is in memory: it answers at once

    async def call(self, method: str, params: Any = None, *, timeout_ms: int | None = None) -> Any:
        """Call a method that a client has registered, or any other, with the rights of the hub itself.

        Raises:
            RpcError: the error that the call ended with; -32601 where nobody serves it.
            RuntimeError: this is another loop than the hub's.
        """
        if self._loop is None or _running_loop() is not self._loop:
            raise RuntimeError("mock.call has to be awaited on the loop of `async with MockHub() as mock:`")
        router = self._running().parts.router
        return await internal.call(router, method, {} if params is None else params, timeout_ms=timeout_ms)

    # --- faults ---

    def refuse(self, method: str, error: RpcError, times: int = 1) -> None:
        """Let the next ``times`` calls of a method end with an error, without running it."""
        if times < 1:
            raise ValueError("refuse: times must be 1 or more")
        _require_error("refuse", error)
        self._script.refuse(method, error, times)

    def refuse_connections(self, error: RpcError | None) -> None:
        """Refuse new connections from now on, as a hub that answers their handshake with an error; None: no more.

        ``RpcError(ErrorCode.UNAUTHENTICATED, "...")`` is a wrong token, ``FORBIDDEN`` an origin that is not allowed,
        and ``RESOURCE_EXHAUSTED`` a hub with too many connections. Open connections stay: see :meth:`cut`.
        """
        if error is not None:
            _require_error("refuse_connections", error)
        self._script.no_entry = error

    def cut(self) -> None:
        """Reset every connection, as a cable does that is pulled. Sessions wait for their clients."""
        self._on_loop(self._wires.cut)

    def offline(self, is_offline: bool) -> None:
        """While the hub is offline, no connection comes about, and there is none."""

        def change() -> None:
            self._wires.is_offline = is_offline
            if is_offline:
                self._wires.cut()

        self._on_loop(change)

    @property
    def delay_ms(self) -> float:
        """How many milliseconds later everything arrives that the hub sends: a slow network. May be set."""
        return self._wires.delay * 1000

    @delay_ms.setter
    def delay_ms(self, value: float) -> None:
        if not value >= 0:
            raise ValueError("delay_ms must be 0 or more")
        self._wires.delay = value / 1000

    def drain(self) -> None:
        """Refuse new calls, as a hub does that is stopping, until :meth:`restart`. Those that run go on."""

        def begin() -> None:
            self._running().parts.router.draining = True

        self._on_loop(begin)

    def restart(self) -> None:
        """Stop the hub at once, and start it again at the same address: methods, :attr:`calls` and refusals stay.

        Calls that run end as those of a hub do whose time to drain is over; connections are closed with 1012. Sessions,
        topics, registrations and idempotency keys are gone.
        """

        def again() -> None:
            self._end()
            self._start(self._made())

        self._on_loop(again)


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _require_error(what: str, error: object) -> None:
    """Refuse what is no typed error where the test says it, and not in the hub's own code later."""
    if not isinstance(error, RpcError):
        raise TypeError(f"{what}: error has to be an RpcError, not {type(error).__name__}")
