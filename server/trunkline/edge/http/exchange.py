"""One message to the hub and the answer to it, as a connection of the hub: limits, roles, rates, accounting and
cancellation are those of any other connection.

The hub writes JSON-RPC messages to it; the last of them, the only one that is not a notification, is the response.
"""

from __future__ import annotations

import asyncio
import dataclasses
import functools
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, Self

import msgspec
from typing_extensions import override

from trunkline.edge.context import EdgeContext
from trunkline.edge.http.request import EVENT_STREAM
from trunkline.hub.authentication import CREDENTIALS_EXPIRED, NOT_ALLOWED, NOT_AUTHENTICATED, Authentication
from trunkline.hub.client_connection import ClientConnection
from trunkline.hub.connection import ClientCall, Connection, Door, Services, Traffic
from trunkline.hub.outbox import Outbox
from trunkline.hub.principal import Principal
from trunkline.hub.router import Router
from trunkline_protocol.calls import Call
from trunkline_protocol.codecs import jsonrpc
from trunkline_protocol.codecs.jsonrpc import decode_metadata
from trunkline_protocol.errors import ErrorCode, RpcError, limit_error
from trunkline_protocol.events import Event
from trunkline_protocol.hub_methods import CONNECTION_METHODS

PAUSE_BYTES: Final = 64 * 1024
"""With more bytes than this waiting for the peer, the hub pauses the streams."""

NOTIFICATION: Final = b'{"jsonrpc":"2.0","method":'
_ID: Final = "0"
_encode: Final = msgspec.json.Encoder().encode


class Report(msgspec.Struct):
    """Params of ``stream_chunk``, or ``value`` of ``$/progress``."""

    chunk_type: str = "data"
    data: msgspec.Raw = msgspec.Raw(b"null")
    index: int = 0
    is_final: bool = False
    value: msgspec.Raw = msgspec.Raw(b"null")


class Notification(msgspec.Struct):
    """A chunk or a progress report, as the hub writes it before the response."""

    method: str
    params: Report


class Reply(msgspec.Struct):
    """The response to a call: its result as JSON, or its error object."""

    result: msgspec.Raw = msgspec.Raw(b"null")
    error: dict[str, Any] | None = None


decode_notification: Final = msgspec.json.Decoder(Notification).decode
decode_reply: Final = msgspec.json.Decoder(Reply).decode


@dataclasses.dataclass(frozen=True, slots=True)
class ExchangeServices:
    """The services of exchanges: of those that take events and of those whose answer is one piece."""

    with_events: Services
    in_one_piece: Services

    def of(self, takes_events: bool) -> Services:
        """The services of one exchange."""
        return self.with_events if takes_events else self.in_one_piece


def exchange_services(services: Services, credentials: Authentication) -> ExchangeServices:
    """The services of exchanges: those of all connections, but what one answer cannot carry is refused.

    Args:
        credentials: told of each exchange, to end those whose credentials expire. Nothing else is told of exchanges,
            only of their calls.
    """

    def routed(takes_events: bool) -> Services:
        route = _OneAnswer(services.router, takes_events).route
        return dataclasses.replace(services, route=route, opened=credentials.opened, closed=credentials.closed)

    return ExchangeServices(routed(True), routed(False))


class _OneAnswer:
    """Routes the calls of exchanges, and refuses those that one HTTP response cannot carry."""

    def __init__(self, router: Router, takes_events: bool) -> None:
        self._router = router
        self._takes_events = takes_events

    def route(self, call: Call, refusal: RpcError | None) -> None:
        self._router.route(call, refusal or self._refusal(call))

    def _refusal(self, call: Call) -> RpcError | None:
        method = call.method
        if method in CONNECTION_METHODS:
            return RpcError(
                ErrorCode.INVALID_REQUEST, f"{method} needs a persistent connection: call it over the WebSocket at /ws"
            )
        if self._router.answers(method):
            return None
        try:
            info = self._router.backend.find_for(call)
            window = decode_metadata(call.metadata).window if b'"window"' in call.metadata else None
        except RpcError:
            return None  # the router answers with the same error
        if info.input is not None:
            return RpcError(
                ErrorCode.INVALID_REQUEST, f"{method} takes a stream of input: call it over the WebSocket at /ws"
            )
        if window is not None:
            return RpcError(
                ErrorCode.INVALID_PARAMS,
                "metadata.window: there is no stream credit over HTTP, where TCP flow control paces the stream",
            )
        # Chunks of a call made by a notification are dropped in any case.
        if info.streaming and not self._takes_events and isinstance(call, ClientCall):
            return RpcError(
                ErrorCode.INVALID_REQUEST,
                f"{method} is a stream: send Accept: {EVENT_STREAM}",
                data={"accept": EVENT_STREAM},
            )
        return None


class Exchange(Door):
    """The :class:`trunkline.hub.connection.Door` of one message: a context, in which the hub has the connection.

    Args:
        context: what all connections of the hub share.
        services: see :class:`ExchangeServices`.
        principal: on whose behalf calls are made.
        peer: the address of that peer.
        transport: as :class:`trunkline.hub.connection.Traffic` has it.
        takes_events: whether chunks and reports are taken before the response; without, they are dropped.
        number: of the connection, where it shares that of an earlier one.
    """

    def __init__(
        self,
        context: EdgeContext,
        services: Services,
        principal: Principal,
        peer: str,
        transport: str,
        *,
        takes_events: bool = True,
        number: int | None = None,
    ) -> None:
        self.takes_events = takes_events
        self._context = context
        self._services = services
        self._transport = transport
        self._news = asyncio.Event()
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0
        self._paused = False
        self._reply: bytes | None = None
        self._lost: Callable[[], Exception] | None = None
        outbox = Outbox(context.flusher, self, context.outbox_bytes, context.outbox_event_bytes)
        self._connection = ClientConnection(services, outbox, principal, peer, self, number)

    def __enter__(self) -> Self:
        self._context.enter(self, self._connection.peer)
        self._services.opened(self._connection)
        return self

    def __exit__(self, *_error: object) -> None:
        self._context.leave(self)
        self._connection.disconnected()

    @property
    def principal(self) -> Principal:
        """On whose behalf calls are made."""
        return self._connection.principal

    def refusal_of(self, method: str) -> RpcError | None:
        """Why a call of this method is refused whatever its params, or None."""
        return self._connection.refusal_of(method)

    async def call(
        self,
        method: str,
        params: Mapping[str, Any],
        metadata: Mapping[str, Any],
        on_notification: Callable[[Notification], Awaitable[None]],
    ) -> Reply:
        """Make one call and return its response; cancelling this coroutine cancels the call.

        Args:
            on_notification: awaited for each chunk and progress report, in order; the stream waits for it.

        Raises:
            RpcError: 2003, more waits to be taken than one connection may leave unread.
        """
        with self:
            self._hand_over(jsonrpc.encode_request(_ID, method, _encode(params), _encode(metadata)))
            while True:
                await self._wait(None)
                messages, reply = self._taken(), self._reply
                self._resume()
                for message in messages:
                    await on_notification(decode_notification(message))
                if reply is not None:
                    return decode_reply(reply)

    def _hand_over(self, message: bytes, refusal: RpcError | None = None) -> None:
        """Hand the message to the hub; with a refusal, its call is counted and answered with that, but not run."""
        if refusal is None:
            self._connection.receive(message)
        else:
            self._connection.refuse(message, refusal)
        self._connection.outbox.flush()

    async def _wait(self, seconds: float | None) -> bool:
        """Wait until there is something to take; returns False where the time is over first."""
        try:
            async with asyncio.timeout(seconds):
                await self._news.wait()
        except TimeoutError:
            return False
        self._news.clear()
        if self._lost is not None:
            raise self._lost()
        return True

    def _lose(self, why: Callable[[], Exception]) -> None:
        """Have whoever waits for the answer get an exception instead.

        It is made where it is raised: one that is kept, with its traceback, would be a cycle.
        """
        self._lost = why
        self._news.set()

    def _add(self, message: bytes) -> None:
        """Put a message behind those that wait for the peer; pauses the connection where they are too many."""
        self._waiting.append(message)
        self._waiting_bytes += len(message)
        if self._waiting_bytes > PAUSE_BYTES and not self._paused:
            self._paused = True
            self._connection.writing_paused()
        self._news.set()

    def _taken(self) -> list[bytes]:
        """The messages that wait, which do not from now on."""
        messages, self._waiting, self._waiting_bytes = self._waiting, [], 0
        return messages

    def _resume(self) -> None:
        """Let the streams go on, where they were paused."""
        if self._paused:
            self._paused = False
            self._connection.writing_resumed()

    # --- the hub's side ---

    @override
    def write(self, messages: list[bytes]) -> None:
        for message in messages:
            if not message.startswith(NOTIFICATION):
                self._reply = message
            elif self.takes_events:
                self._add(message)
        self._news.set()

    @override
    def write_event(self, event: Event) -> None:
        pass

    @property
    @override
    def write_payload(self) -> Callable[[bytes], object]:
        return _ignore

    @override
    def close(self, code: int, reason: str) -> None:
        for call in tuple(self._connection.calls.values()):
            call.settle_error(_ended(code, reason, maybe_executed=call.maybe_executed))
            call.cancel_execution()

    @override
    def overflow(self) -> None:
        self._lose(functools.partial(_unread, self._context.outbox_bytes))

    @override
    def traffic(self) -> Traffic:
        return Traffic(self._transport)

    @override
    def pause_reading(self) -> None:
        pass

    @override
    def resume_reading(self) -> None:
        pass

    @override
    def adopt(self, connection: Connection) -> None:
        pass

    @override
    def disown(self) -> None:
        pass


def _ended(code: int, reason: str, *, maybe_executed: bool) -> RpcError:
    """The error of a call whose connection is closed with this code."""
    if code in (CREDENTIALS_EXPIRED, NOT_AUTHENTICATED):
        return RpcError(ErrorCode.UNAUTHENTICATED, reason, maybe_executed=maybe_executed)
    if code == NOT_ALLOWED:
        return RpcError(ErrorCode.FORBIDDEN, reason, maybe_executed=maybe_executed)
    return RpcError(ErrorCode.WORKER_UNAVAILABLE, reason, maybe_executed=maybe_executed, retry_after_ms=1000)


def _unread(limit: int) -> RpcError:
    words = f"more than {limit} bytes of the answer wait to be read: ask for less, or read on"
    error = limit_error("outbox_bytes", words, retry_after_ms=None)
    error.maybe_executed = True
    return error


def _ignore(_payload: bytes) -> None:
    """Drop an event's payload: there are no subscriptions."""
