"""``GET /events``: topics as server-sent events, for pages and proxies where no WebSocket comes through.

``?topic=orders.42&topic=parcels.*`` subscribes. Each event's ``id`` has the positions of all topics, in the order of
the query; a browser's ``EventSource`` sends the last one back (``Last-Event-ID``), and what came after it follows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final
from urllib.parse import quote, unquote

import msgspec
from starlette.datastructures import Headers, QueryParams
from starlette.types import Receive, Scope, Send
from typing_extensions import override

from trunkline.background import start_task
from trunkline.edge.context import MAX_CLIENT_CHARS, EdgeContext
from trunkline.edge.http.answer import Refused, send_refusal
from trunkline.edge.http.body import PeerLeft
from trunkline.edge.http.exchange import NOTIFICATION
from trunkline.edge.http.http_exchange import EVENT_HEADERS, HEARTBEAT, HttpExchange
from trunkline.edge.http.request import EVENT_STREAM, admit, require_method
from trunkline.edge.http.rpc import one_line
from trunkline.hub.connection import Services, Traffic
from trunkline.hub.principal import Principal
from trunkline_protocol.errors import ErrorCode, RpcError
from trunkline_protocol.events import Event, Position
from trunkline_protocol.hub_messages import RecoverParams, Subscribed, SubscribeParams
from trunkline_protocol.hub_methods import EVENT_GAP, SUBSCRIBE

PATH: Final = "/events"
MAX_TOPICS: Final = 32
"""Topics and patterns of one stream: its ids name the position of each."""

RETRY_MS: Final = 1_000
"""When a browser connects again, unless it knows better."""

NONE: Final = "-"
"""Stands in an id for a pattern, which has no position."""


class _Params(msgspec.Struct):
    topic: str
    epoch: str
    offset: int = 0
    to: int = 0


class _Message(msgspec.Struct):
    method: str
    params: msgspec.Raw


class _Reply(msgspec.Struct):
    id: int
    result: Subscribed | None = None
    error: dict[str, Any] | None = None


_message: Final = msgspec.json.Decoder(_Message)
_params: Final = msgspec.json.Decoder(_Params)
_reply: Final = msgspec.json.Decoder(_Reply)


class EventSourceEndpoint:
    """The ASGI application at ``/events``.

    Args:
        context: what all connections of the hub share.
        services: those of all connections: a stream is one of them.
    """

    def __init__(self, context: EdgeContext, services: Services) -> None:
        self._context = context
        self._services = services

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request to ``/events``."""
        headers = Headers(scope=scope)
        try:
            require_method(scope, "GET")
            principal = await admit(self._context, scope, headers)
            topics = _topics(scope)
            positions = _positions(headers.get("Last-Event-ID"), topics)
            with TopicStream(self._context, self._services, principal, scope, topics) as stream:
                await stream.serve(positions, receive, send)
        except PeerLeft:
            pass
        except Refused as refused:
            await send_refusal(send, refused)


def _topics(scope: Scope) -> list[str]:
    topics = list(dict.fromkeys(QueryParams(scope["query_string"]).getlist("topic")))
    if not 1 <= len(topics) <= MAX_TOPICS:
        words = f"name 1 to {MAX_TOPICS} topics or patterns, as in {PATH}?topic=orders.42&topic=parcels.*"
        raise Refused(RpcError(ErrorCode.INVALID_PARAMS, words))
    return topics


def _positions(last_id: str | None, topics: list[str]) -> dict[str, Position]:
    """The positions in the id of the last event that the peer has; none where it is no id of such a stream."""
    parts = [] if last_id is None else last_id.split(",")
    found: dict[str, Position] = {}
    if len(parts) == len(topics):
        for topic, part in zip(topics, parts, strict=True):
            epoch, _, offset = part.rpartition(":")
            if epoch and offset.isdecimal() and len(offset) < 20:
                found[topic] = Position(unquote(epoch), int(offset))
    return found


class TopicStream(HttpExchange):
    """One response that lasts: a connection of the hub that subscribes and is sent events.

    Args:
        topics: topics and patterns.
    """

    def __init__(
        self, context: EdgeContext, services: Services, principal: Principal, scope: Scope, topics: list[str]
    ) -> None:
        super().__init__(context, services, principal, scope, takes_events=True)
        self._topics = topics
        self._client = Headers(scope=scope).get("user-agent", "")[:MAX_CLIENT_CHARS] or None
        self._replies: dict[int, Subscribed] = {}
        self._refusal: RpcError | None = None
        self._ids: dict[str, str] = {}
        self._is_closed = False

    async def serve(self, positions: dict[str, Position], receive: Receive, send: Send) -> None:
        """Subscribe, and send events until the peer leaves or the hub closes the stream.

        Args:
            positions: where to go on, by topic.

        Raises:
            Refused: the hub refused a topic.
            PeerLeft: the peer has disconnected.
        """
        self._running = True
        self._wire.limit_silence(self._context.ping_interval + self._context.ping_timeout)
        watcher = start_task(self._watch(receive), "peer of an event stream")
        try:
            await self._subscribe(positions)
            await self._send_all(send)
        finally:
            watcher.cancel()
            if self._life is not None:
                self._life.cancel()

    async def _subscribe(self, positions: dict[str, Position]) -> None:
        for number, topic in enumerate(self._topics):
            at = positions.get(topic)
            params = SubscribeParams(topic, None if at is None else RecoverParams(at.epoch, at.offset))
            request = {"jsonrpc": "2.0", "id": number, "method": SUBSCRIBE.name, "params": params}
            self._connection.receive(msgspec.json.encode(request))
        self._connection.outbox.flush()
        while len(self._replies) < len(self._topics) and self._refusal is None and not self._is_closed:
            await self._wait(None)
        if self._refusal is not None:
            raise Refused(self._refusal)

    async def _send_all(self, send: Send) -> None:
        headers = [(name.lower().encode(), value.encode()) for name, value in EVENT_HEADERS.items()]
        headers.append((b"content-type", EVENT_STREAM.encode()))
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        self._look_for_signs_of_life()
        begun = [self._replies[number] for number in sorted(self._replies)]
        block = b"retry: %d\n" % RETRY_MS + self._block("subscribed", msgspec.json.encode(begun))
        while True:
            await self._send_block(send, block, last=self._is_closed)
            if self._is_closed:
                return
            if not self._waiting:
                self._resume()
            if not self._waiting and not await self._wait(self._context.ping_interval):
                block = HEARTBEAT
                continue
            block = b"".join(map(self._told, self._taken()))

    def _told(self, message: bytes) -> bytes:
        """An event or a gap as a server-sent event, with the positions after it as its id."""
        said = _message.decode(message)
        at = _params.decode(said.params)
        is_gap = said.method == EVENT_GAP.name
        if at.topic in self._ids:
            self._ids[at.topic] = _id_of(at.epoch, at.to if is_gap else at.offset)
        return self._block("gap" if is_gap else None, bytes(said.params))

    def _block(self, kind: str | None, data: bytes) -> bytes:
        name = b"" if kind is None else b"event: %b\n" % kind.encode()
        ids = ",".join(self._ids.get(topic, NONE) for topic in self._topics)
        return b"id: %b\n%bdata: %b\n\n" % (ids.encode(), name, one_line(data))

    # --- the hub's side ---

    @override
    def write(self, messages: list[bytes]) -> None:
        for message in messages:
            if message.startswith(NOTIFICATION):
                self._add(message)
            else:
                self._replied(_reply.decode(message))
        self._news.set()

    def _replied(self, reply: _Reply) -> None:
        if reply.error is not None:
            self._refusal = RpcError.from_wire(reply.error)
        elif reply.result is not None:
            self._replies[reply.id] = result = reply.result
            if result.epoch is not None:
                self._ids[result.topic] = _id_of(result.epoch, result.offset)

    @override
    def write_event(self, event: Event) -> None:
        self._add(event.encode().payload)

    @property
    @override
    def write_payload(self) -> Callable[[bytes], object]:
        return self._add

    @override
    def close(self, code: int, reason: str) -> None:
        self._is_closed = True
        self._news.set()

    @override
    def traffic(self) -> Traffic:
        return Traffic("sse", self._client)


def _id_of(epoch: str, offset: int) -> str:
    return f"{quote(epoch, safe='.')}:{offset}"
