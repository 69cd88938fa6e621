"""The calls of a client's connection, and how their outcomes are delivered to it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from typing_extensions import override

from trunkline.hub.outbox import Outbox
from trunkline.hub.principal import Principal
from trunkline_protocol.calls import Call
from trunkline_protocol.codecs import jsonrpc
from trunkline_protocol.errors import ErrorCode, RpcError, limit_error
from trunkline_protocol.hub_methods import UNNUMBERED_CALLS
from trunkline_protocol.messages import Id, Request

if TYPE_CHECKING:
    from trunkline.hub.connection import Connection

logger = logging.getLogger("trunkline.hub")

GRANT_STEP: Final = 16
"""Chunks per grant: an executor's window is several times this, so it never waits for a grant on its way."""

GRANT_BYTES: Final = 64 * 1024
"""Bytes per grant, where chunks are large."""
SMALL_REPLY: Final = 4096
"""Bytes of a reply that has room in any batch: an error has, for example."""

MAX_SENT_BYTES: Final = 64 * 2**20
"""What clients are sent at most in one message: all sockets known take more (100 MiB in the package ws)."""


def too_large_to_send(what: str, size: int) -> RpcError:
    """The answer instead of something that the client's socket might not take, and never would."""
    words = f"{what} {size} bytes, and a client is sent at most {MAX_SENT_BYTES}: return less, or stream it"
    data = {"size": size, "max_bytes": MAX_SENT_BYTES}
    return RpcError(ErrorCode.SERIALIZATION_ERROR, words, maybe_executed=True, data=data)


class ClientCall(Call):
    """A call from a connection, which knows what its principal may call. Its reply goes to the outbox, or its batch."""

    vetted = True

    __slots__ = ("batch", "connection", "granted", "id", "last_type", "mark", "ungranted_bytes")

    def __init__(self, connection: Connection, request: Request, batch: BatchReply | None) -> None:
        Call.__init__(self, request.method, jsonrpc.params_of(request), jsonrpc.metadata_of(request))
        self.flow = connection.number
        self.connection = connection
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
        # Never behind the reply: an id may be used again once it is answered.
        self.connection.outbox.send(jsonrpc.encode_input_credit(jsonrpc.encode_id(self.id), consumed))

    @override
    def writable(self) -> bool:
        waits_for_credit = self.window and self.chunks - self.granted >= self.window
        return not waits_for_credit and self.connection.outbox.writable()

    @override
    def key_scope(self) -> str | None:
        return self.connection.principal.name

    @override
    def caller(self) -> Principal:
        return self.connection.principal

    def grant_if_writable(self, sent: int, step: int = GRANT_STEP) -> None:
        """Tell the executor that chunks are on their way, unless the peer is slow to read, or gives credit itself."""
        if self.window:
            return
        due = sent - self.granted >= step or self.ungranted_bytes >= GRANT_BYTES
        if due and self.backend is not None and self.connection.outbox.writable():
            self.granted = sent
            self.ungranted_bytes = 0
            self.backend.grant(self, sent)


class NotificationCall(Call):
    """A call without an id: it runs, and nobody hears of the outcome. The connection has asked whether it may."""

    vetted = True

    __slots__ = ("connection",)

    def __init__(self, connection: Connection, request: Request) -> None:
        Call.__init__(self, request.method, jsonrpc.params_of(request), jsonrpc.metadata_of(request))
        self.flow = connection.number
        self.connection = connection
        connection.notifications += 1

    @override
    def deliver_result(self, result: bytes) -> None:
        self.connection.notifications -= 1

    @override
    def deliver_error(self, error: RpcError) -> None:
        self.connection.notifications -= 1
        logger.info("notification %s ended in: %s", self.method, error)

    @override
    def deliver_chunk(self, chunk_type: bytes, data: bytes) -> None:
        assert self.backend is not None
        self.backend.grant(self, self.chunks + 1)

    @override
    def deliver_progress(self, value: bytes) -> None:
        pass

    @override
    def key_scope(self) -> str | None:
        return self.connection.principal.name

    @override
    def caller(self) -> Principal:
        return self.connection.principal


class BatchReply:
    """Gathers the replies of one batch and sends them as one frame."""

    __slots__ = ("_bytes", "_mark", "_outbox", "_replies", "_waiting")

    def __init__(self, outbox: Outbox, expected: int) -> None:
        self._outbox = outbox
        self._replies: list[bytes] = []
        self._waiting = expected
        self._bytes = 0
        self._mark = 0

    def has_room(self, size: int) -> bool:
        """Whether one more reply may be so large: all are kept until the last is there, and go out as one."""
        return size <= SMALL_REPLY or self._bytes + size <= self._outbox.limit

    def add(self, reply: bytes, mark: int = 0) -> None:
        """One more member is answered; the whole must not overtake what ``mark`` stands for in the outbox."""
        self._replies.append(reply)
        self._bytes += len(reply)
        self._mark = max(self._mark, mark)
        self.skip()

    def skip(self) -> None:
        """One member less is to be answered."""
        self._waiting -= 1
        if not self._waiting and self._replies:
            self._outbox.send(jsonrpc.encode_batch(self._replies), self._mark)
