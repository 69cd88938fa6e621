"""One peer of the hub, whatever door it came through: its calls in flight and what is sent to it."""

from __future__ import annotations

import itertools
import logging
from typing import Final

import msgspec
from typing_extensions import override

from trunkline.hub.outbox import Outbox
from trunkline.hub.principal import Principal
from trunkline.hub.router import Router
from trunkline_protocol.calls import Call
from trunkline_protocol.codecs import jsonrpc
from trunkline_protocol.errors import ErrorCode, RpcError
from trunkline_protocol.messages import Batch, Id, Malformed, Request, Response

logger = logging.getLogger("trunkline.hub")

UNSET: Final = msgspec.UNSET
_numbers = itertools.count(1)

NOT_IN_BATCH: Final = frozenset({"session.open", "session.ack", "subscribe", "unsubscribe", "method.register"})
"""Calls whose reply has to come at an exact point of the wire (SPEC.md, Batches)."""

GRANT_STEP: Final = 16
"""Chunks per grant: an executor's window is several times this, so it never waits for a grant on its way."""

GRANT_BYTES: Final = 64 * 1024
"""Bytes per grant, where chunks are large."""

CANCEL_METHODS: Final = {"$/cancelRequest": "id", "notifications/cancelled": "requestId"}


class ClientCall(Call):
    """A call from a connection. Its reply goes to the outbox, or to the batch it came in."""

    __slots__ = ("batch", "connection", "granted", "id", "last_type", "ungranted_bytes")

    def __init__(self, connection: Connection, request: Request, batch: BatchReply | None) -> None:
        Call.__init__(self, request.method, jsonrpc.params_of(request), jsonrpc.metadata_of(request))
        self.connection = connection
        self.id: Id = request.id  # type: ignore[assignment]  # only built for requests that have one
        self.batch = batch
        self.granted = 0
        self.ungranted_bytes = 0
        self.last_type = b'"data"'

    @override
    def deliver_result(self, result: bytes) -> None:
        connection = self.connection
        del connection.calls[self.id]
        request_id = jsonrpc.encode_id(self.id)
        if self.info is not None and self.info.streaming:
            connection.streams.discard(self)
            connection.outbox.send(jsonrpc.encode_final_chunk(request_id, self.last_type, self.chunks))
        reply = jsonrpc.encode_result(request_id, result)
        connection.reply(reply, self.batch)

    @override
    def deliver_error(self, error: RpcError) -> None:
        connection = self.connection
        del connection.calls[self.id]
        connection.streams.discard(self)
        reply = jsonrpc.encode_error(jsonrpc.encode_id(self.id), jsonrpc.encode_error_object(error))
        connection.reply(reply, self.batch)

    @override
    def deliver_chunk(self, chunk_type: bytes, data: bytes) -> None:
        connection = self.connection
        self.last_type = chunk_type
        connection.outbox.send_chunk(jsonrpc.encode_chunk(jsonrpc.encode_id(self.id), chunk_type, data, self.chunks))
        connection.streams.add(self)
        self.ungranted_bytes += len(data)
        self.grant_if_writable(self.chunks + 1)

    @override
    def deliver_progress(self, value: bytes) -> None:
        if self.progress_token is not None:
            self.connection.outbox.send(jsonrpc.encode_progress(self.progress_token, value))

    @override
    def writable(self) -> bool:
        return self.connection.outbox.writable()

    def grant_if_writable(self, sent: int, step: int = GRANT_STEP) -> None:
        """Tell the executor that its chunks are on their way, unless the peer is slow to read."""
        due = sent - self.granted >= step or self.ungranted_bytes >= GRANT_BYTES
        if due and self.backend is not None and self.connection.outbox.writable():
            self.granted = sent
            self.ungranted_bytes = 0
            self.backend.grant(self, sent)


class NotificationCall(Call):
    """A call without an id: it runs, and nobody hears of the outcome."""

    __slots__ = ()

    @override
    def deliver_result(self, result: bytes) -> None:
        pass

    @override
    def deliver_error(self, error: RpcError) -> None:
        logger.info("notification %s ended in: %s", self.method, error)

    @override
    def deliver_chunk(self, chunk_type: bytes, data: bytes) -> None:
        assert self.backend is not None
        self.backend.grant(self, self.chunks + 1)

    @override
    def deliver_progress(self, value: bytes) -> None:
        pass


class BatchReply:
    """Gathers the replies of one batch and sends them as one frame."""

    __slots__ = ("_outbox", "_replies", "_waiting")

    def __init__(self, outbox: Outbox, expected: int) -> None:
        self._outbox = outbox
        self._replies: list[bytes] = []
        self._waiting = expected

    def add(self, reply: bytes) -> None:
        """One more member is answered."""
        self._replies.append(reply)
        self.skip()

    def skip(self) -> None:
        """One member less is to be answered."""
        self._waiting -= 1
        if not self._waiting and self._replies:
            self._outbox.send(jsonrpc.encode_batch(self._replies))


class Connection:
    """A peer. Its door calls :meth:`receive` for each message and :meth:`disconnected` once."""

    __slots__ = ("_max_batch", "_router", "calls", "number", "outbox", "peer", "principal", "streams")

    def __init__(self, router: Router, outbox: Outbox, principal: Principal, peer: str, max_batch: int) -> None:
        self.number = next(_numbers)
        self.outbox = outbox
        self.principal = principal
        self.peer = peer
        self.calls: dict[Id, ClientCall] = {}
        self.streams: set[ClientCall] = set()
        self._router = router
        self._max_batch = max_batch
        outbox.when_resumed(self._grant_streams)

    def receive(self, data: bytes) -> None:
        """Take one text message (UTF-8, checked by the door)."""
        message = jsonrpc.decode(data, self._max_batch)
        if type(message) is Request:
            self._request(message, None)
        elif type(message) is Batch:
            self._batch(message)
        elif type(message) is Malformed:
            self.outbox.send(_malformed(message))
        else:
            self._response(message)  # type: ignore[arg-type]  # the fourth kind there is

    def disconnected(self) -> None:
        """The peer is gone: what it asked for is not wanted any more."""
        self.outbox.close()
        calls = list(self.calls.values())
        self.calls.clear()
        self.streams.clear()
        for call in calls:
            call.abandon()

    def reply(self, reply: bytes, batch: BatchReply | None) -> None:
        """Send a reply, or put it to the others of its batch."""
        if batch is None:
            self.outbox.send(reply)
        else:
            batch.add(reply)

    def _request(self, request: Request, batch: BatchReply | None) -> None:
        if request.id is UNSET:
            self._notification(request)
        elif request.id in self.calls:
            self._refuse_duplicate(request, batch)
        else:
            call = ClientCall(self, request, batch)
            self.calls[call.id] = call
            self._router.route(call)

    def _notification(self, request: Request) -> None:
        member = CANCEL_METHODS.get(request.method)
        if member is None:
            self._router.route(
                NotificationCall(request.method, jsonrpc.params_of(request), jsonrpc.metadata_of(request))
            )
            return
        try:
            params = msgspec.json.decode(jsonrpc.params_of(request))
        except (msgspec.DecodeError, UnicodeDecodeError):
            return
        target = params.get(member) if isinstance(params, dict) else None
        if type(target) in (int, str):
            self._cancel(target, silent=request.method != "$/cancelRequest")

    def _cancel(self, target: Id, *, silent: bool) -> None:
        call = self.calls.get(target)
        if call is None:
            return  # it was answered already, or never asked
        if silent:  # MCP: a cancelled request gets no reply
            del self.calls[target]
            self.streams.discard(call)
            call.abandon()
            if call.batch is not None:
                call.batch.skip()
            return
        call.settle_error(
            RpcError(ErrorCode.CANCELLED, f"{call.method} was cancelled", maybe_executed=call.executor is not None)
        )
        call.cancel_execution()

    def _refuse_duplicate(self, request: Request, batch: BatchReply | None) -> None:
        # Under its own id the refusal would settle the call that is in flight.
        error = RpcError(
            ErrorCode.INVALID_REQUEST,
            f"id {request.id!r} is in flight on this connection; use another or wait for its reply",
            data={"duplicate_id": request.id},
        )
        reply = jsonrpc.encode_error(b"null", jsonrpc.encode_error_object(error))
        self.reply(reply, batch)

    def _batch(self, batch: Batch) -> None:
        members = [member for member in batch.members if not isinstance(member, Response)]
        expected = sum(1 for member in members if isinstance(member, Malformed) or member.id is not UNSET)
        reply = BatchReply(self.outbox, expected)
        for member in members:
            if isinstance(member, Malformed):
                reply.add(_malformed(member))
            elif member.method in NOT_IN_BATCH and member.id is not UNSET:
                refusal = f"{member.method} cannot be part of a batch; send it in a frame of its own"
                reply.add(_malformed(Malformed(member.id, ErrorCode.INVALID_REQUEST, refusal)))
            else:
                self._request(member, reply)

    def _response(self, response: Response) -> None:
        logger.info("connection %d answered %r, which nobody asked", self.number, response.id)

    def _grant_streams(self) -> None:
        for call in tuple(self.streams):
            call.grant_if_writable(call.chunks, step=1)


def _malformed(message: Malformed) -> bytes:
    error = RpcError(message.code, message.message)
    return jsonrpc.encode_error(jsonrpc.encode_id(message.id), jsonrpc.encode_error_object(error))
