"""What clients do while things break: seeded, many operations at once, each of them written down.

``workload.mjs`` does the same with the JavaScript client. A worker begins (``start``), works until it is told to
``settle`` (nothing new, and what is open ends), and ``finish``es once it has heard the last event of each topic.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, Protocol

from tests.faults.recorder.call_rules import CANCELLED, DISCONNECTED, SERVED_BY_CLIENTS
from tests.faults.recorder.history import Execution, Recorder, Sink
from trunkline.client import DisconnectedError, Event, Gap, Position
from trunkline.client.connection_state import Connected, ConnectionState, Reconnecting
from trunkline_protocol.errors import RpcError
from trunkline_protocol.messages import Window

PATIENT_MS: Final = 10_000
HASTY_MS: Final = 60, 600
"""Deadlines; the second one leaves time for an executor to die, but not for another one to start."""

RECONNECT_SECONDS: Final = 0.05, 0.5
"""Bounds of the wait before a client comes back: a run is short."""

TOPICS: Final = ("recorded.a", "recorded.b", "recorded.c")
PATTERN: Final = "recorded.*"

Rerun = tuple[Literal["hub", "client"], ...]


class Stream(Protocol):
    """The chunks of a call; ``result`` is there when they have ended."""

    @property
    def result(self) -> Any: ...

    def __aiter__(self) -> AsyncIterator[Any]: ...


class Subscription(Protocol):
    """Events and gaps."""

    @property
    def position(self) -> Position | None: ...
    def __aiter__(self) -> AsyncIterator[Event | Gap]: ...


class Client(Protocol):
    """What a client has to be able to do: the shape of :class:`trunkline.client.Hub`."""

    @property
    def call(self) -> Callable[..., Awaitable[Any]]: ...
    @property
    def stream(self) -> Callable[..., Awaitable[Stream]]: ...
    @property
    def publish(self) -> Callable[..., Awaitable[Position]]: ...
    @property
    def subscribe(self) -> Callable[..., AbstractAsyncContextManager[Subscription]]: ...
    @property
    def register(self) -> Callable[..., Awaitable[Any]]: ...
    def on_connection_state(self, listener: Callable[[ConnectionState], None]) -> object: ...


@dataclass(frozen=True, slots=True)
class Load:
    """How much a client does.

    Attributes:
        lanes: operations at once, about.
        pause: seconds between two operations of a lane, at most.
        large: characters of a large value, at most.
        items: of an input, at most.
        chunks: of a stream, at most.
        burst: events of a burst, at most.
        window: chunks that a stream may be ahead of a reader that takes its time, at most; 0 where all are quick.
    """

    lanes: int = 6
    pause: float = 0.1
    large: int = 60_000
    items: int = 150
    chunks: int = 80
    burst: int = 30
    window: int = 0


@dataclass(frozen=True, slots=True)
class Part:
    """What one client is to do.

    Attributes:
        name: of the process in the history.
        seed: what it does follows from it, though not when.
        served: names of all processes that serve methods, its own among them.
        history: folder of the histories.
        ledger: file.
        patterns: whether it subscribes to a pattern, too.
        load: how much it does.
    """

    name: str
    seed: int
    served: Sequence[str]
    history: Path
    ledger: Path
    patterns: bool = True
    load: Load = Load()


class Worker:
    """One client at work.

    Args:
        client: connected, or about to be.
        part: what it is to do.
        recorder: where it writes down what it does.
        ledger: where it writes down what it is made to do. Both are closed by the caller, after the client.
    """

    def __init__(self, client: Client, part: Part, recorder: Recorder, ledger: Sink) -> None:
        self.recorder = recorder
        self._client = client
        self._part = part
        self._rng = random.Random(f"{part.name} of {part.seed}")
        self._ledger = ledger
        self._stopping = asyncio.Event()
        self._lanes: list[asyncio.Task[None]] = []
        self._readers: list[asyncio.Task[None]] = []
        self._last: Mapping[str, str] = {}
        self._is_last_known = asyncio.Event()
        self._is_abandoning = False
        client.on_connection_state(self._note_state)

    # --- its life ---

    async def start(self) -> None:
        """Serve, subscribe, begin; returns when the subscriptions stand."""
        await self.serve()
        topics = (*self._rng.sample(TOPICS, 2), *([PATTERN] if self._part.patterns else []))
        for topic in topics:
            begun = asyncio.Event()
            self._readers.append(asyncio.create_task(self.read(topic, begun)))
            await begun.wait()
        for _ in range(self._part.load.lanes):
            self.begin(self._lane(random.Random(self._rng.random())))

    async def serve(self) -> None:
        """Serve the methods of this name."""
        name = self._part.name
        await self._client.register(f"{SERVED_BY_CLIENTS}echo.{name}", self._serve_echo)
        await self._client.register(f"{SERVED_BY_CLIENTS}count.{name}", self._serve_count, streaming=True)

    def begin(self, doing: Coroutine[Any, Any, None]) -> None:
        """One more thing to do, that has to end when the worker settles."""
        self._lanes.append(asyncio.create_task(doing))

    async def settle(self, within: float) -> None:
        """Begin nothing new, and let what is open end, which it has to."""
        self._stopping.set()
        await self._wait_for(self._lanes, within)

    async def finish(self, last: Mapping[str, str], within: float) -> None:
        """Hear the last event of each topic, and end the subscriptions."""
        self._last = last
        self._is_last_known.set()
        await self._wait_for(self._readers, within)

    async def _wait_for(self, tasks: Sequence[asyncio.Task[None]], within: float) -> None:
        """Until they have ended. What has not by then gets no outcome: that is what the checker looks for."""
        if not tasks:
            return
        _, late = await asyncio.wait(tasks, timeout=within)
        self._is_abandoning = True
        for task in late:
            task.cancel()
        await asyncio.wait(tasks)
        self._is_abandoning = False
        for task in tasks:
            if not task.cancelled():
                task.result()

    async def _lane(self, rng: random.Random) -> None:
        doings = [doing for doing, weight in self._doings() for _ in range(weight)]
        while not self._stopping.is_set():
            await rng.choice(doings)(rng)
            await asyncio.sleep(rng.uniform(0, self._part.load.pause))

    def _doings(self) -> Sequence[tuple[Callable[[random.Random], Awaitable[None]], int]]:
        return (
            (self._quick, 5), (self._large, 1), (self._slow, 3), (self._hasty, 2), (self._cancelled, 1),
            (self._retried, 2), (self._keyed, 3), (self._summed, 2), (self._streamed, 3), (self._left, 1),
            (self._published, 4), (self._burst, 1), (self._asked_of_clients, 3), (self._streamed_by_clients, 2),
        )  # fmt: skip

    # --- calls ---

    async def _quick(self, rng: random.Random) -> None:
        await self._echo(rng, 0)

    async def _large(self, rng: random.Random) -> None:
        """Many segments, both ways."""
        await self.call("recorded.echo", "x" * rng.randrange(self._part.load.large), 0, timeout_ms=PATIENT_MS)

    async def _slow(self, rng: random.Random) -> None:
        await self._echo(rng, rng.uniform(0.1, 1.0))

    async def _hasty(self, rng: random.Random) -> None:
        await self._echo(rng, rng.uniform(0, 0.5), timeout_ms=rng.choice(HASTY_MS))

    async def _retried(self, rng: random.Random) -> None:
        """The caller says that it may be run again."""
        await self._echo(rng, rng.uniform(0, 0.5), again=True, idempotent=True)

    async def _cancelled(self, rng: random.Random) -> None:
        task = asyncio.create_task(self._echo(rng, rng.uniform(0.2, 0.5)))
        await asyncio.sleep(rng.uniform(0, 0.3))
        task.cancel()
        await asyncio.wait([task])

    async def _keyed(self, rng: random.Random) -> None:
        """The same work asked for up to three times, at once or one after the other."""
        key = self.recorder.next_op()
        again = rng.random() < 0.3
        value, seconds = rng.randrange(10**9), rng.uniform(0, 0.5)
        method = "recorded.echo.again" if again else "recorded.echo"
        asked = [
            self.call(method, value, seconds, rerun=("hub",) if again else (), key=key, timeout_ms=PATIENT_MS)
            for _ in range(rng.randint(1, 3))
        ]
        if rng.random() < 0.5:
            await asyncio.gather(*asked)
        else:
            for each in asked:
                await each

    async def _echo(self, rng: random.Random, seconds: float, *, again: bool | None = None, **options: Any) -> None:
        again = rng.random() < 0.3 if again is None else again
        rerun: Rerun = (*(("hub",) if again else ()), *(("client",) if options.get("idempotent") else ()))
        method = "recorded.echo.again" if again else "recorded.echo"
        await self.call(method, rng.randrange(10**9), seconds, rerun=rerun, **({"timeout_ms": PATIENT_MS} | options))

    async def call(
        self, method: str, value: Any, seconds: float, *, rerun: Rerun = (), key: str | None = None, **options: Any
    ) -> None:
        """Call a method that is written down; ``options`` are the client's."""
        op = self.recorder.next_op()
        work = key or op
        if key is not None:
            options["idempotency_key"] = key
        self.recorder.invoke(op, "call", method=method, work=work, key=key, rerun=rerun, expect=value)
        params = {"work": work, "value": value, "seconds": seconds}
        await self._outcome(op, self._client.call(method, params, **options))

    async def _asked_of_clients(self, rng: random.Random) -> None:
        method = f"{SERVED_BY_CLIENTS}echo.{rng.choice(self._part.served)}"
        await self.call(method, rng.randrange(10**9), rng.uniform(0, 0.3), timeout_ms=PATIENT_MS)

    async def _summed(self, rng: random.Random) -> None:
        op = self.recorder.next_op()
        numbers = [rng.randrange(1000) for _ in range(rng.randint(0, self._part.load.items))]
        again = rng.random() < 0.3
        method = "recorded.sum.again" if again else "recorded.sum"
        rerun: Rerun = ("hub",) if again else ()
        self.recorder.invoke(op, "input", method=method, work=op, rerun=rerun, expect=sum(numbers))
        await self._outcome(op, self._client.call(method, {"work": op}, input=numbers, timeout_ms=PATIENT_MS))

    # --- streams ---

    async def _streamed(self, rng: random.Random) -> None:
        again = rng.random() < 0.3
        method = "recorded.count.again" if again else "recorded.count"
        rerun: Rerun = ("hub",) if again else ()
        await self._read(rng, method, rerun)

    async def _read(self, rng: random.Random, method: str, rerun: Rerun = ()) -> None:
        n, interval = rng.randint(0, self._part.load.chunks), rng.uniform(0, 0.02)
        await self.stream(method, n, interval, rerun=rerun, **self._reading(rng))

    def _reading(self, rng: random.Random) -> dict[str, Any]:
        """How a stream is read: some readers take their time, and have little room."""
        window = self._part.load.window
        if not window or rng.random() < 0.5:
            return {}
        return {"pause": rng.uniform(0, 0.03), "window": Window(rng.randint(1, window))}

    async def _left(self, rng: random.Random) -> None:
        """Read a part, and go."""
        n = self._part.load.chunks
        await self.stream("recorded.count", n, 0.01, until=rng.randint(1, n // 4))

    async def _streamed_by_clients(self, rng: random.Random) -> None:
        method = f"{SERVED_BY_CLIENTS}count.{rng.choice(self._part.served)}"
        await self._read(rng, method)

    async def stream(
        self,
        method: str,
        n: int,
        interval: float,
        *,
        rerun: Rerun = (),
        until: int | None = None,
        pause: float = 0,
        **options: Any,
    ) -> None:
        """Read a stream of ``n`` chunks, or ``until`` so many have come. ``options`` are the client's."""
        op = self.recorder.next_op()
        self.recorder.invoke(op, "stream", method=method, work=op, rerun=rerun, expect=n)
        chunks: list[tuple[int, Any]] = []
        params = {"work": op, "n": n, "interval": interval}
        await self._outcome(op, self._chunks(method, params, chunks, until, pause, options), chunks=chunks)

    async def _chunks(
        self,
        method: str,
        params: Any,
        chunks: list[tuple[int, Any]],
        until: int | None,
        pause: float,
        options: Mapping[str, Any],
    ) -> Any:
        stream = await self._client.stream(method, params, timeout_ms=PATIENT_MS, **options)
        reading = stream.__aiter__()
        try:
            async for chunk in reading:
                chunks.append((chunk.index, chunk.data))
                if until is not None and len(chunks) == until:
                    raise LeftError
                if pause:
                    await asyncio.sleep(pause)
        finally:
            if (close := getattr(reading, "aclose", None)) is not None:
                await close()
        return stream.result

    # --- events ---

    async def _published(self, rng: random.Random) -> None:
        topic = rng.choice(TOPICS)
        if rng.random() < 0.6:
            await self.publish(topic)
            return
        key = self.recorder.next_op()
        for _ in range(rng.randint(1, 2)):
            await self.publish(topic, key)

    async def _burst(self, rng: random.Random) -> None:
        topic = rng.choice(TOPICS)
        await asyncio.gather(*(self.publish(topic) for _ in range(rng.randint(5, self._part.load.burst))))

    async def publish(self, topic: str, key: str | None = None) -> tuple[str, bool]:
        """Publish the name of the work. Returns it, and whether the hub has acknowledged."""
        op = self.recorder.next_op()
        work = key or op
        self.recorder.invoke(op, "publish", topic=topic, work=work, key=key)
        stored: list[Position] = []

        async def store() -> None:
            stored.append(await self._client.publish(topic, work, idempotency_key=key))

        await self._outcome(op, store(), stored=stored)
        return work, bool(stored)

    async def read(self, topic: str, begun: asyncio.Event) -> None:
        """Subscribe, tell that it is so, and read up to the last event."""
        op = self.recorder.next_op()
        self.recorder.invoke(op, "subscribe", topic=topic)
        await self._outcome(op, self._read_until_the_last(op, topic, begun))

    async def _read_until_the_last(self, op: str, topic: str, begun: asyncio.Event) -> None:
        async with AsyncExitStack() as stack:
            events = await stack.enter_async_context(self._client.subscribe(topic))
            at = events.position
            self.recorder.saw(op, "begun", epoch=at and at.epoch, offset=at and at.offset)
            begun.set()
            heard: dict[str, Any] = {}
            reading = asyncio.create_task(self._note_events(op, events, heard))
            stack.callback(reading.cancel)
            await self._is_last_known.wait()
            wanted = {name: work for name, work in self._last.items() if topic in (name, PATTERN)}
            while any(heard.get(name) != work for name, work in wanted.items()):
                if reading.done():
                    await reading
                await asyncio.sleep(0.01)

    async def _note_events(self, op: str, events: Subscription, heard: dict[str, Any]) -> None:
        async for item in events:
            place: dict[str, Any] = {"topic": item.topic, "epoch": item.epoch}
            if isinstance(item, Event):
                self.recorder.saw(op, "event", offset=item.offset, value=item.data, **place)
                heard[item.topic] = item.data
            else:
                self.recorder.saw(op, "gap", offset=item.start, until=item.end, reason=item.reason, **place)

    # --- served ---

    async def _serve_echo(self, params: Any, _call: Any = None) -> Any:
        self._executed(params["work"])
        await asyncio.sleep(params["seconds"])
        return params["value"]

    async def _serve_count(self, params: Any, _call: Any = None) -> AsyncIterator[Any]:
        self._executed(params["work"])
        for index in range(params["n"]):
            yield {"work": params["work"], "index": index}
            await asyncio.sleep(params["interval"])

    def _executed(self, work: str) -> None:
        self._ledger.write(Execution(time.monotonic(), work, 0, self._part.name))

    # --- what becomes of them ---

    async def _outcome(
        self,
        op: str,
        doing: Awaitable[Any],
        *,
        chunks: list[tuple[int, Any]] | None = None,
        stored: Sequence[Position] = (),
    ) -> None:
        """Wait for the end of an operation, and write it down. One that is abandoned leaves no line."""
        more: dict[str, Any] = {} if chunks is None else {"chunks": chunks}
        try:
            value = await doing
        except RpcError as error:
            more |= {"code": error.code, "message": error.message[:200], "sent_chunks": error.data.get("chunks")}
            self._failed(op, error.maybe_executed, more)
        except DisconnectedError as error:
            self._failed(op, error.maybe_executed, more | {"code": DISCONNECTED, "message": str(error)[:200]})
        except LeftError:
            self._failed(op, True, more | {"code": CANCELLED})
        except asyncio.CancelledError:
            if self._is_abandoning:
                raise
            self._failed(op, True, more | {"code": CANCELLED})
        except Exception as error:
            self._failed(op, True, more | {"code": type(error).__name__, "message": str(error)[:200]})
        else:
            where = {"epoch": stored[0].epoch, "offset": stored[0].offset} if stored else {}
            self.recorder.end(op, "ok", value=value, **more, **where)

    def _failed(self, op: str, maybe_executed: bool, more: dict[str, Any]) -> None:
        self.recorder.end(op, "info" if maybe_executed else "fail", maybe_executed=maybe_executed, **more)

    def _note_state(self, change: ConnectionState) -> None:
        members: dict[str, Any] = {"value": change.state}
        if isinstance(change, Connected):
            members["resumed"] = change.resumed
        else:
            cause = change.cause if isinstance(change, Reconnecting) else change
            members |= {"code": cause.code, "message": cause.reason[:200]}
        self.recorder.saw("", "state", **members)


class LeftError(Exception):
    """A reader leaves a stream before its end."""
