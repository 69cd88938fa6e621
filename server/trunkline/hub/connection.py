"""A connection of the hub, whatever its door: its socket, its calls in flight, and how they are answered.

Messages are handled in :mod:`trunkline.hub.client_connection`.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Protocol

from typing_extensions import override

from trunkline.hub.act_as import act_as
from trunkline.hub.attached import Session
from trunkline.hub.batch_reply import BatchReply
from trunkline.hub.limits import ConnectionLimits, RateLimiter
from trunkline.hub.outbox import Nobody, Outbox, Writer
from trunkline.hub.principal import AnsweredHandshake, Principal
from trunkline.hub.router import Router
from trunkline.hub.shares import PrincipalShare, Shares
from trunkline_protocol.calls import Call
from trunkline_protocol.codecs import jsonrpc
from trunkline_protocol.codecs.dialect import Frame
from trunkline_protocol.errors import ErrorCode, RpcError, limit_error
from trunkline_protocol.hub_methods import UNNUMBERED_CALLS
from trunkline_protocol.messages import ActAs, Id, Request, Response

logger = logging.getLogger("trunkline.hub")

_numbers = itertools.count(1)

GRANT_STEP: Final = 16
"""Chunks per grant: an executor's window is several times this, so a stream never stops for a grant in transit."""

GRANT_BYTES: Final = 64 * 1024
"""Bytes per grant, where chunks are large."""

MAX_SENT_BYTES: Final = 64 * 2**20
"""Bytes that a client is sent at most in one message: known clients accept more (100 MiB in the package ws)."""


class Traffic(NamedTuple):
    """The kind of a connection, and its traffic so far.

    Attributes:
        transport: ``websocket``, ``msgpack``, ``phoenix``, ``longpoll``, ``framed``, ``http``, ``sse`` or ``mcp``.
        client: the peer's User-Agent, or None.
        received, sent: bytes so far; None where the transport does not count them.
    """

    transport: str
    client: str | None = None
    received: int | None = None
    sent: int | None = None


class Door(Writer, Protocol):
    """The socket of a connection, as the hub uses it."""

    def traffic(self) -> Traffic:
        """The kind of transport, the client's name, and the bytes received and sent so far."""

    def close(self, code: int, reason: str) -> None:
        """Send what waits, then close the socket with this close code and reason."""

    def adopt(self, connection: Connection) -> None:
        """Pass messages to :meth:`Connection.receive_numbered` of this connection from now on."""

    def disown(self) -> None:
        """Let go of the connection, which goes on over a newer socket: pass on nothing more, not even the close."""


class Callees(Protocol):
    """Takes what clients send as callees, for methods they serve (see :mod:`trunkline.hub.registrations`)."""

    def answered(self, connection: Connection, response: Response) -> bool:
        """Settle the call that a response answers. Returns False where it is of no request to this connection."""

    def chunk(self, connection: Connection, params: bytes) -> None:
        """Pass on the chunk of a ``stream_chunk``; ignored where it is for no call of this connection."""

    def progress(self, connection: Connection, params: bytes) -> None:
        """Pass on the value of a ``$/progress``; ignored where it is for no call of this connection."""

    def gone(self, connection: Connection) -> None:
        """Remove the registrations of a client that is gone for good; its calls run elsewhere, or fail."""


@dataclass(slots=True)
class Services:
    """What all connections of a hub share.

    Attributes:
        opened, closed: called once with each connection.
        shares: what each principal, tenant and address has.
        tenant_rates: the rates of tenants, beside those of principals.
        act_as: returns the principal that one acts as, or raises :class:`RpcError`.
        route: takes each call, with the error that it is refused with, if any; by default the router does.
    """

    router: Router
    limits: ConnectionLimits
    rates: RateLimiter
    opened: Callable[[Connection], None]
    closed: Callable[[Connection], None]
    callees: Callees | None = None
    shares: Shares = field(default_factory=Shares)
    tenant_rates: RateLimiter = field(default_factory=lambda: RateLimiter(0.0))
    act_as: Callable[[Principal, ActAs], Principal] = act_as
    route: Callable[[Call, RpcError | None], None] | None = None


class _Nowhere(Nobody):
    """The door of a connection that is gone. Its real door refers to it: a cycle, which only the collector frees."""

    def send_frames(self, frames: list[Frame]) -> None:
        """Drop the frames."""

    def traffic(self) -> Traffic:
        """No traffic."""
        return Traffic("none")

    def close(self, code: int, reason: str) -> None:
        """Do nothing: the socket is closed."""

    def adopt(self, connection: Connection) -> None:
        """Do nothing: no messages come any more."""

    def disown(self) -> None:
        """Do nothing: no messages come any more."""


NOWHERE: Final = _Nowhere()


class Connection(ABC):
    """The connection of a peer. Its door calls :meth:`receive` for each message and :meth:`disconnected` once.

    With a session the connection outlives its socket: ``door`` is then that of the present socket, or the last one.

    Attributes:
        number: its own, or that of the connection that an HTTP request shares with others before it.
        may_open_session: true while the first message is handled.
        authenticating: the task in which a call of ``auth`` waits for the authenticate hook.
        share: that of the principal. Every one of ``calls``, and each of ``notifications``, counts in it.
        subscriptions: topics and patterns, each with the name of the principal that subscribed.
        inherited: metadata for calls without their own: the trace of the request that opened the connection; over
            HTTP also its request id.
    """

    __slots__ = (
        "_services",
        "authenticating",
        "calls",
        "door",
        "inherited",
        "may_open_session",
        "notifications",
        "number",
        "opened_at",
        "outbox",
        "peer",
        "principal",
        "session",
        "share",
        "streams",
        "subscriptions",
    )

    def __init__(
        self,
        services: Services,
        outbox: Outbox,
        principal: Principal,
        peer: str,
        door: Door,
        number: int | None = None,
    ) -> None:
        self.number = next(_numbers) if number is None else number
        self.opened_at = time.monotonic()
        self.outbox = outbox
        self.peer = peer
        self.door = door
        self.session: Session | None = None
        self.may_open_session = False
        self.authenticating: asyncio.Task[AnsweredHandshake] | None = None
        self.calls: dict[Id, ClientCall] = {}
        self.streams: dict[ClientCall, None] = {}
        self.notifications = 0
        self.subscriptions: dict[str, str] = {}
        self.inherited: dict[str, str] = {}
        self._services = services
        self.share: PrincipalShare = services.shares.of(principal)
        self.become(principal)

    def become(self, principal: Principal) -> None:
        """Set the principal of the peer's calls from now on."""
        self.principal = principal
        share, running = self._services.shares.of(principal), len(self.calls) + self.notifications
        self.share.count_calls(-running)
        share.count_calls(running)
        self.share = share

    def require_registration(self) -> None:
        """Refuse one more method where the principal serves as many as it may (2003)."""
        self._services.shares.require_registration(self.share)

    def close(self, code: int, reason: str) -> None:
        """End the connection with a close code and a reason."""
        self.door.close(code, reason)

    def writing_paused(self) -> None:
        """Stop writing: the transport's buffer is full."""
        if self.session is None:
            self.outbox.pause()
        else:
            self.session.door_full()

    def writing_resumed(self) -> None:
        """Write on: the transport has room again."""
        if self.session is None:
            self.outbox.resume()
        else:
            self.session.door_free()

    def disconnected(self) -> None:
        """Detach the session after the socket has gone; without a session, cancel the peer's calls."""
        waits = self.session is not None and self.session.disconnected()
        if not waits:
            self.give_up()
        self._services.closed(self)
        if not waits:
            self.door = NOWHERE

    def give_way(self) -> None:
        """End the session of this connection if it is detached; without effect on others."""
        if self.session is not None:
            self.session.give_way()

    @property
    def is_attached(self) -> bool:
        """Whether the connection has a socket to write to."""
        return not self.outbox.closed and (self.session is None or self.session.is_attached)

    def give_up(self) -> None:
        """Cancel the calls and end the registrations of a peer that is gone for good."""
        self.outbox.close()
        if self._services.callees is not None:
            self._services.callees.gone(self)
        calls = list(self.calls.values())
        self.share.count_calls(-len(calls))
        self.calls.clear()
        self.streams.clear()
        for call in calls:
            call.abandon()

    @abstractmethod
    def receive(self, data: bytes) -> None:
        """Handle one text message (UTF-8, checked by the door)."""

    @abstractmethod
    def receive_first(self, data: bytes) -> bool:
        """Handle a message while it may open a session. Returns False where it was ``auth``: the next one may, too."""

    @abstractmethod
    def receive_numbered(self, data: bytes) -> None:
        """Handle one message on a connection with a session; repeats are ignored."""

    @abstractmethod
    def refuse(self, envelope: bytes, error: RpcError) -> None:
        """Count and refuse a message whose params were not translated, as any other call is.

        Args:
            envelope: the request without its params.
        """

    @abstractmethod
    def refusal_of(self, method: str) -> RpcError | None:
        """Why a request or notification would be refused whatever its params are; None if that depends on them."""


def too_large_to_send(what: str, size: int) -> RpcError:
    """The error in place of a result or chunk that is too large for one message (:data:`MAX_SENT_BYTES`)."""
    words = f"{what} {size} bytes, and a client is sent at most {MAX_SENT_BYTES}: return less, or stream it"
    data = {"size": size, "max_bytes": MAX_SENT_BYTES}
    return RpcError(ErrorCode.SERIALIZATION_ERROR, words, maybe_executed=True, data=data)


class ClientCall(Call):
    """A request of a connection, which has checked the rights. The reply goes to the outbox, or to its batch.

    Attributes:
        behalf: the principal that the connection's acts as; None where it calls for itself.
    """

    vetted = True

    __slots__ = ("batch", "behalf", "connection", "granted", "id", "last_type", "mark", "ungranted_bytes")

    def __init__(self, connection: Connection, request: Request, batch: BatchReply | None) -> None:
        Call.__init__(self, request.method, jsonrpc.params_of(request), jsonrpc.metadata_of(request))
        self.flow = connection.number
        self.connection = connection
        self.behalf: Principal | None = None
        self.id: Id = request.id  # type: ignore[assignment]  # only built for requests that have one
        self.batch = batch
        self.mark = 0
        self.granted = 0
        self.ungranted_bytes = 0
        self.last_type = b'"data"'

    @override
    def deliver_result(self, result: bytes) -> None:
        connection = self.connection
        del connection.calls[self.id]
        share = connection.share
        share.calls -= 1
        share.tenant.calls -= 1
        request_id = jsonrpc.encode_id(self.id)
        if len(result) > MAX_SENT_BYTES:
            connection.streams.pop(self, None)
            error = too_large_to_send(f"{self.method} returned", len(result))
            self._reply(jsonrpc.encode_error(request_id, jsonrpc.encode_error_object(error)))
            return
        if self.info is not None and self.info.streaming:
            connection.streams.pop(self, None)
            final = jsonrpc.encode_final_chunk(request_id, self.last_type, self.chunks)
            self.mark = connection.outbox.send(final, self.mark, chunk=True)
        self._reply(jsonrpc.encode_result(request_id, result))

    @override
    def deliver_error(self, error: RpcError) -> None:
        connection = self.connection
        del connection.calls[self.id]
        share = connection.share
        share.calls -= 1
        share.tenant.calls -= 1
        connection.streams.pop(self, None)
        self._reply(jsonrpc.encode_error(jsonrpc.encode_id(self.id), jsonrpc.encode_error_object(error)))

    def _reply(self, reply: bytes) -> None:
        session = self.connection.session
        if session is not None and self.method in UNNUMBERED_CALLS and self.batch is None:
            session.send_unnumbered(reply)
        elif self.batch is None:
            self.connection.outbox.send(reply, self.mark)
        else:
            self.batch.add(reply if self.batch.has_room(len(reply)) else self._too_much(), self.mark)

    def _too_much(self) -> bytes:
        words = f"{self.method}: the replies of this batch together are too large; call it in a frame of its own"
        error = limit_error("outbox_bytes", words, retry_after_ms=None)
        error.maybe_executed = self.maybe_executed
        return jsonrpc.encode_error(jsonrpc.encode_id(self.id), jsonrpc.encode_error_object(error))

    @override
    def deliver_chunk(self, chunk_type: bytes, data: bytes) -> None:
        connection = self.connection
        if len(data) > MAX_SENT_BYTES:
            self.settle_error(too_large_to_send(f"a chunk of {self.method} has", len(data)))
            self.cancel_execution()
            return
        self.last_type = chunk_type
        chunk = jsonrpc.encode_chunk(jsonrpc.encode_id(self.id), chunk_type, data, self.chunks)
        self.mark = connection.outbox.send(chunk, self.mark, chunk=True)
        connection.streams[self] = None
        self.ungranted_bytes += len(data)
        self.grant_if_writable(self.chunks + 1)

    @override
    def deliver_progress(self, value: bytes) -> None:
        if self.progress_token is not None:
            progress = jsonrpc.encode_progress(self.progress_token, value)
            self.mark = self.connection.outbox.send(progress, self.mark)

    @override
    def input_consumed(self, consumed: int) -> None:
        # Sent in order with the reply, never after it: an answered id may be used again.
        self.connection.outbox.send(jsonrpc.encode_input_credit(jsonrpc.encode_id(self.id), consumed))

    @override
    def writable(self) -> bool:
        waits_for_credit = self.window and self.chunks - self.granted >= self.window
        return not waits_for_credit and self.connection.outbox.writable()

    @override
    def key_scope(self) -> str | None:
        return self.caller().owner

    @override
    def caller(self) -> Principal:
        return self.behalf or self.connection.principal

    @property
    @override
    def tenant(self) -> str:
        return (self.behalf or self.connection.principal).tenant

    def grant_if_writable(self, sent: int, step: int = GRANT_STEP) -> None:
        """Give the executor credit for chunks sent, unless the peer is slow to read, or gives credit itself."""
        if self.window:
            return
        due = sent - self.granted >= step or self.ungranted_bytes >= GRANT_BYTES
        if due and self.backend is not None and self.connection.outbox.writable():
            self.granted = sent
            self.ungranted_bytes = 0
            self.backend.grant(self, sent)


class NotificationCall(Call):
    """A notification of a connection, which has checked the rights: it runs, and its outcome is only logged.

    ``behalf`` is as in :class:`ClientCall`.
    """

    vetted = True

    __slots__ = ("behalf", "connection")

    def __init__(self, connection: Connection, request: Request) -> None:
        Call.__init__(self, request.method, jsonrpc.params_of(request), jsonrpc.metadata_of(request))
        self.flow = connection.number
        self.connection = connection
        self.behalf: Principal | None = None
        connection.notifications += 1
        connection.share.count_calls(1)

    @override
    def deliver_result(self, result: bytes) -> None:
        self.connection.notifications -= 1
        self.connection.share.count_calls(-1)

    @override
    def deliver_error(self, error: RpcError) -> None:
        self.connection.notifications -= 1
        self.connection.share.count_calls(-1)
        said = {"request_id": self.request_id()}
        logger.info("notification %s failed: %s", self.method, error, extra=said)

    @override
    def deliver_chunk(self, chunk_type: bytes, data: bytes) -> None:
        assert self.backend is not None
        self.backend.grant(self, self.chunks + 1)

    @override
    def deliver_progress(self, value: bytes) -> None:
        pass

    @override
    def key_scope(self) -> str | None:
        return self.caller().owner

    @override
    def caller(self) -> Principal:
        return self.behalf or self.connection.principal
