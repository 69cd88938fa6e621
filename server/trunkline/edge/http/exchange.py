"""One HTTP request and its response as a connection of the hub: limits, roles, rates, accounting and cancellation are
those of any other connection.

The hub writes JSON-RPC messages to it; the last of them, the only one that is not a notification, is the response to
the call. It goes out as the whole HTTP response, or as the last of several server-sent events.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from typing import Final, Protocol, cast

from starlette.datastructures import Headers
from starlette.types import Receive, Scope, Send
from typing_extensions import override

from trunkline.background import start_task
from trunkline.edge.context import EdgeContext
from trunkline.edge.http.answer import HttpAnswer, send_answer
from trunkline.edge.http.body import PeerLeft
from trunkline.edge.http.brief_door import BriefDoor
from trunkline.edge.http.request import EVENT_STREAM, peer_of, wire_of
from trunkline.hub.authentication import CREDENTIALS_EXPIRED, NOT_AUTHENTICATED
from trunkline.hub.connection import ClientCall, Connection, Services, Traffic
from trunkline.hub.principal import Principal
from trunkline.hub.router import Router
from trunkline_protocol.calls import Call
from trunkline_protocol.codecs.jsonrpc import decode_metadata
from trunkline_protocol.errors import ErrorCode, RpcError
from trunkline_protocol.hub_methods import CONNECTION_METHODS
from trunkline_protocol.traces import from_headers

HEARTBEAT: Final = b":\n\n"
"""A comment of server-sent events: it keeps proxies from closing a silent stream as dead."""

NOTIFICATION: Final = b'{"jsonrpc":"2.0","method":'
EVENT_HEADERS: Final = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}

logger = logging.getLogger("trunkline.edge")


class Form(Protocol):
    """How the JSON-RPC messages of one exchange are put into HTTP."""

    def answer(self, reply: bytes | None) -> HttpAnswer:
        """The whole response; ``reply`` is None after a notification."""

    def instead(self, reply: bytes) -> HttpAnswer | None:
        """The response in place of a stream of events that would hold the reply only; None to send the stream."""

    def event(self, message: bytes) -> bytes:
        """A message as a server-sent event; empty where it is not sent."""


class Watch(Protocol):
    """Ends connections whose credentials expire, as :class:`trunkline.hub.authentication.Authentication` does."""

    def opened(self, connection: Connection) -> None:
        """Watch a new connection."""

    def closed(self, connection: Connection) -> None:
        """Watch a connection no longer."""


class ExchangeRouter:
    """The hub's router for exchanges: refuses calls that one HTTP response cannot carry.

    Args:
        router: takes all other calls.
    """

    def __init__(self, router: Router) -> None:
        self._router = router
        self.answers = router.answers
        self.backend = router.backend

    def route(self, call: Call, refusal: RpcError | None = None) -> None:
        """Route a call, or have it refused with ``refusal``, or because one HTTP response cannot carry it."""
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
            info = self._router.backend.find(method)
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
        return self._stream_refusal(call) if info.streaming else None

    @staticmethod
    def _stream_refusal(call: Call) -> RpcError | None:
        # Chunks of a call made by a notification are dropped in any case.
        if not isinstance(call, ClientCall) or cast("HttpExchange", call.connection.door).takes_events:
            return None
        return RpcError(
            ErrorCode.INVALID_REQUEST,
            f"{call.method} is a stream: send Accept: {EVENT_STREAM}",
            data={"accept": EVENT_STREAM},
        )


def exchange_services(services: Services, credentials: Watch) -> Services:
    """The services of exchanges: those of all connections, behind an :class:`ExchangeRouter`.

    Args:
        credentials: told of each exchange, to end those whose credentials expire. Nothing else is told of exchanges,
            only of their calls.
    """
    router = cast("Router", ExchangeRouter(services.router))  # connections use its route(), answers() and backend only
    return dataclasses.replace(services, router=router, opened=credentials.opened, closed=credentials.closed)


class HttpExchange(BriefDoor):
    """The :class:`trunkline.hub.connection.Door` of one request: a context from the request's head to its response.

    Args:
        context: what all connections of the hub share.
        services: see :func:`exchange_services`.
        principal: who sent the request.
        scope: the request's, of ASGI.
        takes_events: whether the response may be a stream of server-sent events.
    """

    def __init__(
        self, context: EdgeContext, services: Services, principal: Principal, scope: Scope, takes_events: bool
    ) -> None:
        super().__init__(context, services, principal, peer_of(scope))
        self.takes_events = takes_events
        self._wire = wire = wire_of(scope)
        self._reply: bytes | None = None
        self._running = False
        self._sending = False
        self._blocks = 0
        self._life: asyncio.TimerHandle | None = None
        self._left = False
        headers = Headers(scope=scope)
        self._connection.trace = from_headers(headers.get("traceparent"), ", ".join(headers.getlist("tracestate")))
        if wire.number is None:
            wire.number = self._connection.number
        self._connection.number = wire.number

    def refusal_of(self, method: str) -> RpcError | None:
        """Why a call of this method is refused whatever its params, or None."""
        return self._connection.refusal_of(method)

    async def run(
        self, message: bytes, form: Form, receive: Receive, send: Send, refusal: RpcError | None = None
    ) -> None:
        """Hand a message to the hub and send the response; returns when that is sent or the peer is gone.

        Args:
            message: JSON-RPC, checked to be UTF-8.
            refusal: what the call is to be answered with, and counted as, without being run.
        """
        connection, context = self._connection, self._context
        watcher: asyncio.Task[None] | None = None
        self._running = True
        if refusal is None:
            connection.receive(message)
        else:
            connection.refuse(message, refusal)
        connection.outbox.flush()
        try:
            if connection.calls:
                self._wire.limit_silence(context.ping_interval + context.ping_timeout)
                watcher = start_task(self._watch(receive), "peer of an HTTP call")
            if self.takes_events and (connection.calls or self._reply is not None):
                await self._send_events(form, send)
            else:
                await self._send_reply(form, send)
        except PeerLeft:
            pass
        finally:
            if watcher is not None:
                watcher.cancel()
            if self._life is not None:
                self._life.cancel()

    async def _watch(self, receive: Receive) -> None:
        """Cancel the calls as soon as the peer has disconnected."""
        while (await receive())["type"] != "http.disconnect":
            pass
        self._left = True
        self._connection.give_up()
        self._news.set()

    async def _send_reply(self, form: Form, send: Send) -> None:
        while self._reply is None and not self._is_over():
            await self._wait(None)
        await send_answer(send, form.answer(self._reply))

    def _is_over(self) -> bool:
        """Whether no reply will come any more. The reply of a settled call may still be in the outbox."""
        if self._connection.calls:
            return False
        self._connection.outbox.flush()
        return self._reply is None

    async def _wait(self, seconds: float | None) -> bool:
        """Wait until there is something to send; returns False where the time is over first."""
        try:
            async with asyncio.timeout(seconds):
                await self._news.wait()
        except TimeoutError:
            return False
        self._news.clear()
        if self._left:
            raise PeerLeft
        return True

    # --- server-sent events ---

    async def _send_events(self, form: Form, send: Send) -> None:
        has_news = bool(self._waiting) or self._reply is not None or await self._wait(self._context.ping_interval)
        if has_news and not self._waiting and self._reply is not None:
            other = form.instead(self._reply)
            if other is not None:
                await send_answer(send, other)
                return
        headers = [(name.lower().encode(), value.encode()) for name, value in EVENT_HEADERS.items()]
        headers.append((b"content-type", EVENT_STREAM.encode()))
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        self._look_for_signs_of_life()
        last = False
        while not last:
            block, last = self._take(form)
            if block or last:
                await self._send_block(send, block, last)
            self._resume()
            if not (last or self._waiting or self._reply) and not await self._wait(self._context.ping_interval):
                await self._send_block(send, HEARTBEAT, last=False)

    def _take(self, form: Form) -> tuple[bytes, bool]:
        """Take out what waits, as server-sent events; and whether the reply is among it, which ends the stream."""
        messages = self._taken()
        last = self._reply is not None
        if self._reply is not None:
            messages.append(self._reply)
        return b"".join(map(form.event, messages)), last

    async def _send_block(self, send: Send, block: bytes, last: bool) -> None:
        """Send a block; waits while the transport is full, and the streams wait with it."""
        self._sending = True
        await send({"type": "http.response.body", "body": block, "more_body": not last})
        self._sending = False
        self._blocks += 1
        if self._left:
            raise PeerLeft

    def _look_for_signs_of_life(self, before: object = None) -> None:
        """Cut off a peer that reads nothing for as long as a WebSocket may be silent; checks again after that time."""
        signs = (self._blocks, self._wire.unsent) if self._sending else None
        if signs is not None and signs == before:
            logger.info(
                "a peer does not read its events; closing the connection", extra={"peer": self._connection.peer}
            )
            self._wire.abort()
            return
        silence = self._context.ping_interval + self._context.ping_timeout
        self._life = asyncio.get_running_loop().call_later(silence, self._look_for_signs_of_life, signs)

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
    def close(self, code: int, reason: str) -> None:
        # Of a request that is still being read nothing has run: there is no call to settle.
        if not self._running:
            self._wire.abort()
        for call in tuple(self._connection.calls.values()):
            call.settle_error(_ended(code, reason, maybe_executed=call.maybe_executed))
            call.cancel_execution()

    @override
    def traffic(self) -> Traffic:
        return Traffic("http")

    @override
    def overflow(self) -> None:
        logger.warning("a peer reads too slowly; closing the connection", extra={"peer": self._connection.peer})
        self._wire.abort()


def _ended(code: int, reason: str, *, maybe_executed: bool) -> RpcError:
    """The error of a call whose connection is closed with this code."""
    if code in (CREDENTIALS_EXPIRED, NOT_AUTHENTICATED):
        return RpcError(ErrorCode.UNAUTHENTICATED, reason, maybe_executed=maybe_executed)
    return RpcError(ErrorCode.WORKER_UNAVAILABLE, reason, maybe_executed=maybe_executed, retry_after_ms=1000)
