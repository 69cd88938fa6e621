"""The client's public interface: calls, streams, events and served methods. Each of them ends, whatever happens."""

from __future__ import annotations

import asyncio
import functools
import random as _random
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from ssl import SSLContext
from types import TracebackType
from typing import Any, Final, Literal

from trunkline.client.connection_state import CloseInfo, Listener, State
from trunkline.client.engine import Engine
from trunkline.client.link import KEEPALIVE_SECONDS, Connector, Token, open_link
from trunkline.client.outgoing import Notice, encode_body, encode_exactly
from trunkline.client.received_events import History, Position, event_from, gap_from
from trunkline.client.retrying import Random, Reconnect, Retry
from trunkline.client.serving import Handler, Registration, is_streaming
from trunkline.client.streams import Input, ResultStream
from trunkline.client.subscribing import Subscription
from trunkline_protocol.messages import Priority, Window

DEFAULT_WINDOW: Final = Window()

MAX_QUEUED: Final = 1000
MAX_QUEUED_BYTES: Final = 8 * 2**20
DEFAULT_RETRY: Final = Retry()


DefaultMetadata = Mapping[str, Any] | Callable[[], Mapping[str, Any]]
"""Metadata of every call, or a function that returns them anew for each: those of a trace, for example."""


@dataclass(frozen=True, slots=True)
class CallDefaults:
    """What the calls of a connection have that say nothing else: see :func:`connect`."""

    metadata: DefaultMetadata | None = None
    timeout_ms: int | None = None

    def members(self, metadata: Mapping[str, Any] | None, **own: Any) -> dict[str, Any]:
        """The metadata of a call that has some of its own, and members that are arguments, where they are not None."""
        given = self.metadata() if callable(self.metadata) else self.metadata
        named = {name: value for name, value in own.items() if value is not None}
        return {**(given or {}), **(metadata or {}), **named}


class Hub:
    """A connection to a hub, made by :func:`connect`.

    The network connection may be lost and made again. Calls, streams, subscriptions and registrations go on over the
    next one; those that cannot end with :class:`DisconnectedError`.
    """

    def __init__(self, engine: Engine, defaults: CallDefaults) -> None:
        self._defaults = defaults
        self._conversation = engine.conversation
        self._callers = engine.callers
        self._subscriptions = engine.subscriptions
        self._serving = engine.serving
        self._reconnector = engine.reconnector
        self._close = engine.close

    # --- calls ---

    async def call(
        self,
        method: str,
        params: Any = None,
        *,
        timeout_ms: int | None = None,
        priority: Priority | None = None,
        idempotency_key: str | None = None,
        idempotent: bool = False,
        retry: Retry | Literal[False] | None = None,
        metadata: dict[str, Any] | None = None,
        input: Input | None = None,
        on_progress: Callable[[Any], None] | None = None,
    ) -> Any:
        """Call a method and return its result. Cancelling the awaiting task cancels the call at the hub.

        Args:
            params: an object (by name) or a list (by position).
            timeout_ms: deadline in milliseconds, for all attempts together and the wait for a connection; the hub's
                default is 30,000.
            idempotency_key: the hub runs the method once, however often a call with this key is made.
            idempotent: the method may run twice, so the call is made again even when it is unknown whether it ran.
            retry: policy for this call instead of that of :func:`connect`; False for never. Only calls that certainly
                did not run, or may run again, are retried. A call that a hub refuses because it is stopping waits for
                the next connection, and one that its executors cannot take yet until they can, which counts as no
                attempt, unless this is False.
            metadata: further members of the call's metadata.
            input: items (any JSON) for a method that takes a stream; read as fast as the method takes them. A call
                with input is not retried.
            on_progress: called with each progress report.

        Raises:
            RpcError: the typed error the call ended with; 1002 when the deadline passed; -32600 where the message is
                larger than the hub's limit and was not sent.
            DisconnectedError: the connection was lost, and the session with it, before the response arrived; or there
                is no connection and the queue is full.
            ValueError: JSON cannot carry the params.
        """
        return await self._callers.call(
            method,
            params,
            timeout_ms=self._defaults.timeout_ms if timeout_ms is None else timeout_ms,
            members=self._defaults.members(metadata, priority=priority, idempotency_key=idempotency_key),
            repeats=self._callers.repeats(retry, idempotent=idempotent, keyed=idempotency_key is not None),
            input=input,
            on_progress=on_progress,
        )

    def stream(
        self,
        method: str,
        params: Any = None,
        *,
        timeout_ms: int | None = None,
        priority: Priority | None = None,
        idempotency_key: str | None = None,
        metadata: dict[str, Any] | None = None,
        input: Input | None = None,
        window: Window = DEFAULT_WINDOW,
    ) -> ResultStream:
        """Start a streaming call and return its chunks: ``async for chunk in hub.stream(...)``.

        The call is not retried, but waits for the next connection if this hub is stopping.

        Args:
            timeout_ms: the longest silence between chunks in milliseconds; the hub's default is 60,000.
            window: how far the method may run ahead of the reader, which bounds the chunks that are queued here.

        Other arguments are those of :meth:`call`.

        Raises:
            DisconnectedError: the client is closed, or there is no connection and the queue is full.
            ValueError: JSON cannot carry the params.
        """
        own = {"priority": priority, "idempotency_key": idempotency_key, "timeout_ms": timeout_ms}
        members = self._defaults.members(metadata, **own)
        return self._callers.stream(method, params, members=members, input=input, window=window)

    async def notify(self, method: str, params: Any = None, *, metadata: dict[str, Any] | None = None) -> None:
        """Send a notification, which gets no response. Waits while the hub accepts no further messages.

        Raises:
            DisconnectedError: the client is closed, or there is no connection and the queue is full.
            ValueError: JSON cannot carry the params.
        """
        self._callers.require_open(method)
        body = encode_body(method, params)
        if metadata:
            body += b',"metadata":' + encode_exactly(metadata, f"metadata of {method}")
        notice = Notice(b'{"jsonrpc":"2.0",%b}' % body)
        self._conversation.admit(method, notice.size)
        self._conversation.send(notice)
        await self._conversation.emptied()

    # --- events ---

    @asynccontextmanager
    async def subscribe(
        self, *topics: str, recover: Position | None = None, history: int = 0, max_queued: int = 1024
    ) -> AsyncIterator[Subscription]:
        """Receive the events of topics for the length of a ``with`` block::

            async with hub.subscribe("orders.*") as events:
                async for event in events:
                    match event:
                        case Event(topic, data): ...
                        case Gap(topic, count=count): ...

        Args:
            topics: names, or patterns: ``*`` is one token, ``>`` at the end one or more. An event that several of
                them match is delivered once. A pattern may also bring history that another subscription of this
                connection recovers.
            recover: resume after this position; for one topic without wildcards.
            history: how many of the latest events of each topic come first, as far as the hub keeps them; not for
                patterns with wildcards.
            max_queued: events that may wait for the reader. If the reader is slower, the oldest are dropped, and a
                :class:`Gap` with the reason ``client_slow`` takes their place.

        After a reconnect topics resume at their position, and patterns at those of their topics; events that the hub
        has not kept become a :class:`Gap`. Where it cannot tell which they are, the gap is of the whole pattern, its
        epoch empty: ``epoch``, the hub was restarted; ``history``, too much was published meanwhile;
        ``disconnected``, more topics than the client remembers.

        Raises:
            RpcError: the hub refused: -32602 for an invalid topic, 6002 without permission, 2003 for too many.
            DisconnectedError: the client is closed.
            ValueError: no topic, ``recover`` with several topics, or ``max_queued`` below 1.
        """
        if not topics or max_queued < 1:
            raise ValueError("subscribe needs a topic, and max_queued must be 1 or more")
        if recover is not None and history:
            raise ValueError("either recover or history: both say where to begin")
        if recover is not None and len(topics) > 1:
            raise ValueError("recover is the position of one topic: make a subscription for each")
        subscription = Subscription(topics, max_queued)
        try:
            await self._subscriptions.add(subscription, recover, history)
            yield subscription
        finally:
            await self._subscriptions.remove(subscription)

    async def publish(self, topic: str, data: Any, *, idempotency_key: str | None = None) -> Position:
        """Publish an event; returns its position once the hub has stored it.

        Args:
            data: any JSON.
            idempotency_key: publishing again with the same key, within five minutes, does not publish a second event.

        Raises:
            RpcError: the hub refused: -32602 for an invalid topic, 6002 without permission.
            DisconnectedError: it is unknown whether the event was published; with an idempotency key it is safe to
                publish again.
        """
        params = {"topic": topic, "data": data}
        if idempotency_key is not None:
            params["idempotency_key"] = idempotency_key
        repeats = self._callers.repeats(None, idempotent=False, keyed=idempotency_key is not None)
        stored = await self._callers.call("publish", params, repeats=repeats)
        return Position(stored["epoch"], stored["offset"])

    async def history(self, topic: str, *, after: Position | None = None, limit: int = 100) -> History:
        """The latest events of a topic, or the first ones after a position, without a subscription.

        Args:
            topic: a name without wildcards.
            after: list what came after this position, as far as the hub keeps it; what is missing is ``gap``.
            limit: events, 1,000 at most; an answer has a MiB of data at most, and says so (``more``).

        Raises:
            RpcError: the hub refused: -32602 for what is no topic, 6002 without permission to subscribe.
            DisconnectedError: the client is closed.
        """
        params: dict[str, Any] = {"topic": topic, "limit": limit}
        if after is not None:
            params["after"] = {"epoch": after.epoch, "offset": after.offset}
        said = await self._callers.ask("history", params, idempotent=True)
        events = [event_from(event) for event in said["events"]]
        gap = said.get("gap")
        missing = None if gap is None else gap_from(gap)
        return History(events, Position(said["epoch"], said["offset"]), said["more"], missing)

    # --- methods that this client serves ---

    async def register(
        self,
        method: str,
        handler: Handler,
        *,
        summary: str | None = None,
        streaming: bool | None = None,
        idempotent: bool = False,
        max_concurrency: int | None = None,
        timeout_ms: int | None = None,
        params_schema: Mapping[str, Any] | None = None,
        result_schema: Mapping[str, Any] | None = None,
    ) -> Registration:
        """Serve a method to all callers of the hub; it is registered again after a reconnect where necessary.

        Args:
            handler: ``async def (params, call)``, or a generator for a stream; see
                :data:`trunkline.client.serving.Handler`. A :class:`RpcError` that it raises reaches the caller
                unchanged, any other exception as -32603.
            summary: for ``rpc.discover``.
            streaming: whether the method yields chunks; by default, whether the handler is a generator.
            idempotent: whether the hub may give a call to another callee if this one disconnects.
            max_concurrency: calls that the handler gets at once; the hub's default is 32.
            timeout_ms: the method's default deadline.
            params_schema, result_schema: JSON Schemas, for the hub's documents and generated clients; nobody checks
                params or results by them.

        Raises:
            RpcError: the hub refused: 6002 for a name that is taken or without the role ``callee``; -32602 for a
                schema that is too large, or refers to what it does not contain.
            DisconnectedError: the client is closed.
            ValueError: this client serves the method already.
        """
        options = {
            "summary": summary,
            "streaming": is_streaming(handler) if streaming is None else streaming,
            "idempotent": idempotent,
            "max_concurrency": max_concurrency,
            "timeout_ms": timeout_ms,
            "params": params_schema,
            "result": result_schema,
        }
        given = {name: value for name, value in options.items() if value is not None}
        return await self._serving.register(method, handler, given)

    # --- the connection ---

    @property
    def connection_state(self) -> State:
        """The state of the connection: ``connected``, ``reconnecting`` or ``closed``."""
        return self._reconnector.state

    def on_connection_state(self, listener: Listener) -> Callable[[], None]:
        """Call ``listener`` with every change of the state; returns a function that removes the listener."""
        return self._reconnector.listeners.add(listener)

    @property
    def closed(self) -> Awaitable[CloseInfo]:
        """An awaitable that returns how the connection ended, once it has ended for good."""
        return asyncio.shield(self._reconnector.closed)

    async def close(self) -> None:
        """End the session and the connection.

        Open calls and streams end with :class:`DisconnectedError`; loops over subscriptions get the events that have
        arrived, and end.
        """
        await self._close()


class Connecting:
    """A connection to be made: as a context manager it is closed at the end, awaited it is not."""

    def __init__(self, make: Callable[[], Engine], patience: float, defaults: CallDefaults) -> None:
        self._make = make
        self._patience = patience
        self._defaults = defaults
        self._hub: Hub | None = None

    def __await__(self) -> Generator[Any, None, Hub]:
        return self._open().__await__()

    async def _open(self) -> Hub:
        engine = self._make()
        await engine.reconnector.start(self._patience)
        return Hub(engine, self._defaults)

    async def __aenter__(self) -> Hub:
        self._hub = await self._open()
        return self._hub

    async def __aexit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        assert self._hub is not None
        await self._hub.close()


def connect(
    url: str,
    *,
    token: Token | None = None,
    open_timeout: float = 10.0,
    wait: float = 0.0,
    session: bool = True,
    reconnect: bool | Reconnect = True,
    retry: Retry | Literal[False] = DEFAULT_RETRY,
    metadata: DefaultMetadata | None = None,
    timeout_ms: int | None = None,
    max_queued: int = MAX_QUEUED,
    max_queued_bytes: int = MAX_QUEUED_BYTES,
    keepalive: float = KEEPALIVE_SECONDS,
    random: Random = _random.random,
    ssl: SSLContext | None = None,
) -> Connecting:
    """A connection to a hub: ``async with connect(url) as hub:``, or ``hub = await connect(url)``, to be closed.

    When the connection is lost it is made again and, with a session, calls and streams go on where they were. See
    :meth:`Hub.on_connection_state`.

    Args:
        url: ``ws://host:port/ws``, or ``wss://`` where the hub has TLS.
        token: sent as ``Authorization: Bearer``; or a function, asynchronous or not, that returns it and is called
            before every attempt. Where it raises :class:`AuthenticationError`, the client ends. A hub that refuses what
            it returned is tried again; one that refuses a string would refuse it again, which ends the client.
        open_timeout: seconds an attempt may take.
        wait: seconds to try again, with the back-off of ``reconnect``, while there is no hub yet; may be infinite.
        session: whether to open a session; without one a lost connection loses its calls. Of no effect without
            ``reconnect``.
        reconnect: back-off between attempts; False to never reconnect.
        retry: default policy of calls that may be made again; False for never.
        metadata: of every call and stream, beside its own; or a function that returns them, asked for each.
        timeout_ms: deadline of calls that have none of their own, in milliseconds; not of streams.
        max_queued: frames that may wait while there is no connection; calls beyond that fail at once.
        max_queued_bytes: bytes of frames that may wait.
        keepalive: seconds between pings, and within which each has to be answered.
        random: source of random waits, uniform in [0, 1).
        ssl: of a ``wss`` URL: whom to trust, and a certificate of one's own; by default the system's authorities, or
            those in the file that the variable ``SSL_CERT_FILE`` names.

    Raises:
        ConnectError: no connection could be made; ``error`` and ``status`` are the hub's, ``__cause__`` the library's.
        AuthenticationError: the function of the token says that there is none.
        TypeError: ``metadata`` is neither a mapping nor a function.
        ValueError: ``ssl`` with a URL that is not ``wss``.
    """
    if ssl is not None and not url.startswith("wss:"):
        raise ValueError(f"ssl is for wss URLs, not {url}")
    if not (metadata is None or callable(metadata) or isinstance(metadata, Mapping)):
        raise TypeError(f"metadata has to be a mapping or a function, not {type(metadata).__name__}")
    policy = Reconnect() if reconnect is True else (reconnect or None)
    opener = open_link if ssl is None else functools.partial(open_link, ssl=ssl)
    connector = Connector(url, token, open_timeout, session and policy is not None, keepalive, open_link=opener)

    def make() -> Engine:
        return Engine(
            connector,
            reconnect=policy,
            retry=retry or None,
            random=random,
            max_queued=max_queued,
            max_queued_bytes=max_queued_bytes,
        )

    return Connecting(make, wait, CallDefaults(metadata, timeout_ms))
