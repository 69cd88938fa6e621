"""A synchronous client: the same hub, for threads, scripts and notebooks that have no event loop of their own.

One thread runs the loop of all connections of a program; calls from any number of threads are made on it.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, TypeVar

from trunkline.client.connection_state import State
from trunkline.client.hub import Hub, connect
from trunkline.client.received_events import Event, Gap, History, Position
from trunkline.client.streams import StreamChunk

Result = TypeVar("Result")


class _Loop:
    """The loop of a thread of its own, which ends with the program."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None

    def get(self) -> asyncio.AbstractEventLoop:
        """The running loop; begun at the first use."""
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                threading.Thread(target=self._loop.run_forever, name="trunkline-client", daemon=True).start()
            return self._loop


_loop = _Loop()


def _wait(work: Coroutine[Any, Any, Result]) -> Result:
    """The result of a coroutine on the client's loop. An interrupt (Ctrl-C) cancels it there.

    Raises:
        RuntimeError: this is the loop's own thread, which would wait for itself.
    """
    loop = _loop.get()
    try:
        own = asyncio.get_running_loop()
    except RuntimeError:
        own = None
    if own is loop:
        work.close()
        raise RuntimeError("a handler or listener waits for its own loop: use the asynchronous client in it")
    future = asyncio.run_coroutine_threadsafe(work, loop)
    try:
        return future.result()
    except (KeyboardInterrupt, concurrent.futures.CancelledError):
        future.cancel()
        raise


class SyncHub:
    """A connection to a hub, made by :func:`connect_sync`. Any thread may use it; methods are those of :class:`Hub`."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    def call(self, method: str, params: Any = None, **options: Any) -> Any:
        """Call a method and return its result, as :meth:`Hub.call`, with the same options and errors."""
        return _wait(self._hub.call(method, params, **options))

    def stream(self, method: str, params: Any = None, **options: Any) -> SyncStream:
        """Start a streaming call and return its chunks: ``for chunk in hub.stream(...)``; as :meth:`Hub.stream`."""

        async def start() -> Any:
            return self._hub.stream(method, params, **options)

        return SyncStream(_wait(start()))

    def notify(self, method: str, params: Any = None, **options: Any) -> None:
        """Send a notification, as :meth:`Hub.notify`."""
        _wait(self._hub.notify(method, params, **options))

    def publish(self, topic: str, data: Any, *, idempotency_key: str | None = None) -> Position:
        """Publish an event and return its position, as :meth:`Hub.publish`."""
        return _wait(self._hub.publish(topic, data, idempotency_key=idempotency_key))

    def history(self, topic: str, *, after: Position | None = None, limit: int = 100) -> History:
        """The latest events of a topic, or those after a position, as :meth:`Hub.history`."""
        return _wait(self._hub.history(topic, after=after, limit=limit))

    @contextmanager
    def subscribe(self, *topics: str, **options: Any) -> Iterator[Iterator[Event | Gap]]:
        """The events and gaps of topics, for the length of a ``with`` block; as :meth:`Hub.subscribe`."""
        subscribing = self._hub.subscribe(*topics, **options)
        events = _wait(subscribing.__aenter__())
        try:
            yield _each(aiter(events))
        finally:
            _wait(subscribing.__aexit__(None, None, None))

    @property
    def connection_state(self) -> State:
        """The state of the connection: ``connected``, ``reconnecting`` or ``closed``."""
        return self._hub.connection_state

    def close(self) -> None:
        """End the session and the connection, as :meth:`Hub.close`."""
        _wait(self._hub.close())

    def __enter__(self) -> SyncHub:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        self.close()


class SyncStream:
    """The chunks of a streaming call, to iterate over once; leaving the loop early cancels it at the hub."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __iter__(self) -> Iterator[StreamChunk]:
        return _each(aiter(self._stream))

    @property
    def result(self) -> Any:
        """The call's result, which follows the last chunk; :meth:`wait` reads to the end for it."""
        return self._stream.result

    def wait(self) -> Any:
        """The call's result, once it is there; chunks that nobody has read are dropped."""
        return _wait(self._stream.wait())


def _each(items: AsyncIterator[Any]) -> Iterator[Any]:
    try:
        while True:
            try:
                yield _wait(_next(items))
            except StopAsyncIteration:
                return
    finally:
        close: Callable[[], Coroutine[Any, Any, None]] | None = getattr(items, "aclose", None)
        if close is not None:
            _wait(close())


async def _next(items: AsyncIterator[Any]) -> Any:
    return await anext(items)


def connect_sync(url: str, **options: Any) -> SyncHub:
    """A connection to a hub for a program without an event loop; options and errors are those of :func:`connect`.

    ``with connect_sync(url) as hub:``, or ``hub = connect_sync(url)``, to be closed.
    """

    async def start() -> Hub:
        return await connect(url, **options)

    return SyncHub(_wait(start()))
