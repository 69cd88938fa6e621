"""One HTTP request and its response: an exchange with the hub whose answer is one piece, or server-sent events."""

from __future__ import annotations

import asyncio
import logging
from typing import Final, Protocol

from starlette.datastructures import Headers
from starlette.types import Receive, Scope, Send
from typing_extensions import override

from trunkline.background import start_task
from trunkline.edge.context import EdgeContext
from trunkline.edge.http.answer import HttpAnswer, send_answer
from trunkline.edge.http.body import PeerLeft
from trunkline.edge.http.exchange import Exchange
from trunkline.edge.http.named_requests import request_id_of
from trunkline.edge.http.request import EVENT_STREAM, peer_of, wire_of
from trunkline.hub.connection import Services
from trunkline.hub.principal import Principal
from trunkline_protocol.errors import RpcError
from trunkline_protocol.traces import from_headers

HEARTBEAT: Final = b":\n\n"
"""A comment of server-sent events: it keeps proxies from closing a silent stream as dead."""

EVENT_HEADERS: Final = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}

logger = logging.getLogger("trunkline.edge")


class Form(Protocol):
    """How the JSON-RPC messages of one exchange are put into HTTP.

    Attributes:
        gathers: the answer is one piece, into which the form puts what it takes before the reply.
        heartbeat: sent where a stream is silent.
    """

    gathers: bool = False
    heartbeat: bytes = HEARTBEAT

    def take(self, message: bytes) -> None:
        """Take a chunk or report that comes before the reply, of a form that gathers."""
        return

    def answer(self, reply: bytes | None) -> HttpAnswer:
        """The whole response; ``reply`` is None after a notification."""

    def instead(self, reply: bytes) -> HttpAnswer | None:
        """The response in place of a stream of events that would hold the reply only; None to send the stream."""

    def event(self, message: bytes) -> bytes:
        """A message as a server-sent event; empty where it is not sent."""


class HttpExchange(Exchange):
    """An exchange whose peer is at the other end of an HTTP request: a context from its head to its response.

    Args:
        context: what all connections of the hub share.
        services: see :class:`trunkline.edge.http.exchange.ExchangeServices`.
        principal: who sent the request.
        scope: the request's, of ASGI.
        takes_events: whether the response may be a stream of server-sent events.
    """

    def __init__(
        self, context: EdgeContext, services: Services, principal: Principal, scope: Scope, takes_events: bool
    ) -> None:
        self._wire = wire = wire_of(scope)
        super().__init__(
            context, services, principal, peer_of(scope), "http", takes_events=takes_events, number=wire.number
        )
        wire.number = self._connection.number
        self._running = False
        self._sending = False
        self._blocks = 0
        self._life: asyncio.TimerHandle | None = None
        headers = Headers(scope=scope)
        trace = from_headers(headers.get("traceparent"), ", ".join(headers.getlist("tracestate")))
        self._connection.inherited = trace | {"request_id": request_id_of(scope)}

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
        self._hand_over(message, refusal)
        try:
            if connection.calls:
                self._wire.limit_silence(context.ping_interval + context.ping_timeout)
                watcher = start_task(self._watch(receive), "peer of an HTTP call")
            if self.takes_events and not form.gathers and (connection.calls or self._reply is not None):
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
        self._connection.give_up()
        self._lose(PeerLeft)

    async def _send_reply(self, form: Form, send: Send) -> None:
        while self._reply is None and not self._is_over():
            await self._wait(None)
            self._give(form)
        self._give(form)
        await send_answer(send, form.answer(self._reply))

    def _give(self, form: Form) -> None:
        """Give the form what came before the reply; where it does not gather, nothing is kept for it."""
        for message in self._taken():
            form.take(message)
        self._resume()

    def _is_over(self) -> bool:
        """Whether no reply will come any more. The reply of a settled call may still be in the outbox."""
        if self._connection.calls:
            return False
        self._connection.outbox.flush()
        return self._reply is None

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
                await self._send_block(send, form.heartbeat, last=False)

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
        if self._lost is not None:
            raise self._lost()

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
    def close(self, code: int, reason: str) -> None:
        # Of a request that is still being read nothing has run: there is no call to settle.
        if not self._running:
            self._wire.abort()
        super().close(code, reason)

    @override
    def overflow(self) -> None:
        logger.warning("a peer reads too slowly; closing the connection", extra={"peer": self._connection.peer})
        self._wire.abort()
