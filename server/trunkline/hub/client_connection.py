"""Handles the messages of a client: requests, notifications, batches, responses; and checks what it may call."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Final

import msgspec
from typing_extensions import override

from trunkline.hub.act_as import require_call
from trunkline.hub.batch_reply import BatchReply
from trunkline.hub.connection import ClientCall, Connection, Door, NotificationCall, Services
from trunkline.hub.limits import Rates, TokenBucket
from trunkline.hub.outbox import Outbox
from trunkline.hub.principal import ACT_AS, PENDING, Principal, not_granted
from trunkline.hub.shares import Share, share_error
from trunkline_protocol import hub_methods
from trunkline_protocol.codecs import jsonrpc
from trunkline_protocol.codecs.frame_numbers import seq_of
from trunkline_protocol.codecs.jsonrpc import decode_metadata
from trunkline_protocol.depth import ANSWER_TOO_DEEP, CARRIED_DEPTH, is_too_deep, require_depth
from trunkline_protocol.errors import ErrorCode, RpcError, limit_error
from trunkline_protocol.messages import UNREADABLE, Batch, Id, Malformed, Request, Response, StreamCredit
from trunkline_protocol.session import ProtocolViolation, SessionAck
from trunkline_protocol.traces import inherit

logger = logging.getLogger("trunkline.hub")

UNSET: Final = msgspec.UNSET
MAX_REMEMBERED: Final = 64
"""Methods that a connection remembers as allowed, so that patterns are matched once."""

_NOTHING: Final[frozenset[str]] = frozenset()

CANCELS: Final = frozenset({hub_methods.CANCEL_REQUEST.name, hub_methods.CANCELLED.name})


class _Cancelled(msgspec.Struct):
    """Params of the notifications that cancel; other members are ignored."""

    id: int | str | None = None
    requestId: int | str | None = None  # as MCP spells it


class ClientConnection(Connection):
    """A connection that checks the peer's rights and turns its messages into calls.

    Its door calls :meth:`receive` for each message and :meth:`disconnected` once.
    """

    __slots__ = ("_allowed", "_max_calls", "_rates", "_restricted", "_route", "_shares_calls")

    def __init__(
        self,
        services: Services,
        outbox: Outbox,
        principal: Principal,
        peer: str,
        door: Door,
        number: int | None = None,
    ) -> None:
        super().__init__(services, outbox, principal, peer, door, number)
        self._route = services.route or services.router.route
        outbox.when_resumed(self._grant_streams)

    @override
    def become(self, principal: Principal) -> None:
        super().become(principal)
        self._allowed = _NOTHING
        services, now = self._services, time.monotonic()
        self._max_calls = services.limits.max_calls_per_connection
        own = services.rates.bucket((principal.tenant, principal.name), principal.rate, now)
        quota = self.share.tenant.quotas.rate or None
        all_of_it = services.tenant_rates.bucket(principal.tenant, quota, now)
        is_pending = principal is PENDING  # what it may ask before its authentication costs nobody anything
        self._rates = None if is_pending or own is all_of_it is None else Rates(own, all_of_it)
        self._shares_calls = not is_pending and services.shares.limits_calls(self.share)
        self._restricted = principal.methods is not None or self._rates is not None or self._shares_calls

    @override
    def receive(self, data: bytes) -> None:
        message = jsonrpc.decode(data, self._services.limits.max_batch)
        if type(message) is Request:
            self._request(message, None)
        elif type(message) is Batch:
            self._batch(message)
        elif type(message) is Malformed:
            self.outbox.send(_malformed(message))
        elif (fault := self._response(message)) is not None:
            self.outbox.send(_malformed(fault))

    @override
    def receive_first(self, data: bytes) -> bool:
        only_auth = jsonrpc.method_of(data) in hub_methods.BEFORE_AUTH
        self.may_open_session = not only_auth
        self.receive(data)
        self.may_open_session = False
        return not only_auth

    @override
    def receive_numbered(self, data: bytes) -> None:
        if self._is_due(data):
            self.receive(data)

    def _is_due(self, data: bytes) -> bool:
        """Whether a message is to be handled: counts it where the session numbers it, and drops repeats."""
        session = self.session
        try:
            seq = seq_of(data)
        except ProtocolViolation as violation:
            if session is not None:
                session.violated(violation)
            return False
        return seq is None or session is None or session.receive(seq, len(data))

    @override
    def refusal_of(self, method: str) -> RpcError | None:
        if self._restricted and (error := self._forbidden(method)) is not None:
            return error
        router = self._services.router
        if method in _OWN_NOTIFICATIONS or method in CANCELS or router.answers(method):
            return None
        try:
            router.backend.find_in(self.principal.tenant, method)
        except RpcError as unknown:
            if self.principal.has_role(ACT_AS) and router.backend.serves(method):
                return None  # of which tenant a gateway means it, what has not been read yet may say
            return unknown
        return None

    @override
    def refuse(self, envelope: bytes, error: RpcError) -> None:
        if self.session is not None and not self._is_due(envelope):
            return
        request = jsonrpc.decode(envelope, self._services.limits.max_batch)
        if not isinstance(request, Request) or request.id in self.calls:
            self.receive(envelope)  # which refuses it for that
        elif request.id is UNSET:
            self._route(NotificationCall(self, request), error)
        else:
            call = ClientCall(self, request, None)
            self.calls[call.id] = call
            self.share.count_calls(1)
            self._route(call, error)

    def _request(self, request: Request, batch: BatchReply | None) -> None:
        if request.id is UNSET:
            self._notification(request)
        elif request.id in self.calls:
            self._refuse_duplicate(request, batch)
        else:
            call = ClientCall(self, request, batch)
            if self.inherited:
                call.metadata = inherit(call.metadata, self.inherited)
            running = len(self.calls) + self.notifications
            refused = self._restricted or running >= self._max_calls
            refusal = self._refusal(request.method, running) if refused else None
            if call.metadata and _may_act_as(call.metadata):
                refusal = self._acting(call, running, refusal)
            self.calls[call.id] = call
            share = self.share
            share.calls += 1
            share.tenant.calls += 1
            self._route(call, refusal)

    def _refusal(self, method: str, running: int) -> RpcError | None:
        """Why this peer may not make this call now, or None; ``running`` of its calls are in flight."""
        if self._restricted and method not in self._allowed and (error := self._forbidden(method)) is not None:
            return error
        return self._not_now(running)

    def _not_now(self, running: int) -> RpcError | None:
        refusal: RpcError | None = None
        if (rates := self._rates) is not None and (wait := rates.take(time.monotonic())):
            refusal = self._too_often(rates, wait)
        elif self._shares_calls:
            refusal = self._services.shares.refusal_of_call(self.share)
        if refusal is None:
            if running < self._max_calls:
                return None
            words = f"{running} calls of this connection are in flight; wait for replies"
            refusal = limit_error("max_calls_per_connection", words)
        self._services.shares.refused.count(refusal)
        return refusal

    def _too_often(self, rates: Rates, wait: float) -> RpcError:
        share = self.share
        assert rates.empty is not None
        if rates.own_is_empty:
            return _rate_error("rate_limit", share, rates.empty, wait)
        setting = "quotas.rate" if share.tenant.quotas.rate else "rate_limit_per_tenant"
        return _rate_error(setting, share.tenant, rates.empty, wait)

    def _acting(self, call: ClientCall | NotificationCall, running: int, refusal: RpcError | None) -> RpcError | None:
        """Make a call that of the principal that ``act_as`` names, if any. Returns why the call is refused, or None.

        Args:
            refusal: of the peer's own call; that it may not call the method does not count where it acts as another.
        """
        own = refusal is None or refusal.code == ErrorCode.FORBIDDEN
        try:
            named = decode_metadata(call.metadata).act_as if own else None
            if named is None:
                return refusal
            other = self._services.act_as(self.principal, named)
            require_call(other, call.method)
        except RpcError as error:
            return error
        call.behalf = other
        return None if refusal is None else self._not_now(running)

    def _forbidden(self, method: str) -> RpcError | None:
        principal = self.principal
        if principal is PENDING:
            if method in hub_methods.BEFORE_AUTH:
                return None
            return RpcError(ErrorCode.UNAUTHENTICATED, f"{method} was refused: the first call has to be auth {{token}}")
        if not principal.may_call(method):
            return not_granted(principal, "methods", method)
        if len(self._allowed) < MAX_REMEMBERED:
            self._allowed = self._allowed | {method}
        return None

    def _notification(self, request: Request) -> None:
        own = _OWN_NOTIFICATIONS.get(request.method)
        if own is not None:
            own(self, jsonrpc.params_of(request))
            return
        if request.method not in CANCELS:
            running = len(self.calls) + self.notifications
            refusal = self._refusal(request.method, running)
            call = NotificationCall(self, request)
            if call.metadata and _may_act_as(call.metadata):
                refusal = self._acting(call, running, refusal)
            if self.inherited:
                call.metadata = inherit(call.metadata, self.inherited)
            self._route(call, refusal)
            return
        try:
            cancelled = msgspec.json.decode(jsonrpc.params_of(request), type=_Cancelled)
        except UNREADABLE:
            return
        silent = request.method == hub_methods.CANCELLED.name
        target = cancelled.requestId if silent else cancelled.id
        if target is not None:
            self._cancel(target, silent=silent)

    def _acknowledged(self, params: bytes) -> None:
        try:
            received = msgspec.json.decode(params, type=SessionAck).received
        except UNREADABLE as error:
            logger.info("connection %d sent an invalid session.ack, ignored: %s", self.number, error)
            return
        if self.session is not None:
            self.session.acknowledge(received)

    def _chunk(self, params: bytes) -> None:
        if is_too_deep(params):
            self._response(Response(jsonrpc.call_of(params), error=ANSWER_TOO_DEEP))
        elif self._services.callees is not None:
            self._services.callees.chunk(self, params)

    def _progress(self, params: bytes) -> None:
        if self._services.callees is not None and not is_too_deep(params):
            self._services.callees.progress(self, params)

    def _credit(self, params: bytes) -> None:
        try:
            credit = msgspec.json.decode(params, type=StreamCredit)
        except UNREADABLE as error:
            logger.info("connection %d sent an invalid stream.credit, ignored: %s", self.number, error)
            return
        call = self.calls.get(credit.request_id)
        if call is not None and call.window and call.backend is not None:
            # Credit is a total, so repeated or late ones are harmless; it is capped at what was sent.
            call.granted = max(call.granted, min(credit.consumed, call.chunks))
            call.backend.grant(call, call.granted)

    def _push(self, params: bytes) -> None:
        push = jsonrpc.decode_push(params)
        call = None if push is None else self.calls.get(push.id if isinstance(push, Malformed) else push.request_id)
        if push is None or call is None or call.backend is None:
            return  # the call was answered already, or never made
        try:
            if isinstance(push, Malformed):
                raise RpcError(push.code, f"stream.push: {push.message}")
            data = b"null" if push.data is UNSET else bytes(push.data)
            require_depth(data, f"stream.push: item {push.index}", levels=CARRIED_DEPTH)
            call.backend.push(call, push.index, data, push.is_final)
        except RpcError as error:
            error.maybe_executed = call.maybe_executed
            call.settle_error(error)
            call.cancel_execution()

    def _cancel(self, target: Id, *, silent: bool) -> None:
        call = self.calls.get(target)
        if call is None:
            return  # the call was answered already, or never made
        if silent:  # MCP: a cancelled request gets no reply
            del self.calls[target]
            self.share.count_calls(-1)
            self.streams.pop(call, None)
            call.abandon()
            if call.batch is not None:
                call.batch.skip()
            return
        call.settle_error(
            RpcError(ErrorCode.CANCELLED, f"{call.method} was cancelled", maybe_executed=call.maybe_executed)
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
        if batch is None:
            self.outbox.send(reply)
        else:
            batch.add(reply)

    def _batch(self, batch: Batch) -> None:
        members = []
        for member in batch.members:
            told = self._response(member) if isinstance(member, Response) else member
            if told is not None:
                members.append(told)
        expected = sum(1 for member in members if isinstance(member, Malformed) or member.id is not UNSET)
        reply = BatchReply(self.outbox, expected)
        for member in members:
            if isinstance(member, Malformed):
                reply.add(_malformed(member))
            elif member.method in hub_methods.NOT_IN_BATCH and member.id is not UNSET:
                refusal = f"{member.method} cannot be part of a batch; send it in a frame of its own"
                reply.add(_malformed(Malformed(member.id, ErrorCode.INVALID_REQUEST, refusal)))
            else:
                self._request(member, reply)

    def _response(self, response: Response) -> Malformed | None:
        """Settle the call that a response answers. Returns the error to send, where the response is not valid."""
        callees, fault = self._services.callees, response.fault
        if response.result is not UNSET and is_too_deep(bytes(response.result)):
            response = Response(response.id, error=ANSWER_TOO_DEEP)
        if callees is not None and callees.answered(self, response):
            # Under the id of the hub's own request it would look like an answer to one of the peer's.
            return None if fault is None else Malformed(None, fault.code, fault.message)
        if fault is None:
            logger.info("connection %d sent a response with id %r, which is of no request", self.number, response.id)
        return fault

    def _grant_streams(self) -> None:
        for call in tuple(self.streams):
            call.grant_if_writable(call.chunks, step=1)


_OWN_NOTIFICATIONS: Final[dict[str, Callable[[ClientConnection, bytes], None]]] = {
    hub_methods.STREAM_PUSH.name: ClientConnection._push,
    hub_methods.STREAM_CREDIT.name: ClientConnection._credit,
    hub_methods.STREAM_CHUNK.name: ClientConnection._chunk,
    hub_methods.PROGRESS.name: ClientConnection._progress,
    hub_methods.SESSION_ACK.name: ClientConnection._acknowledged,
}
"""Notifications that the connection handles itself: they are not routed as calls."""


def _rate_error(setting: str, share: Share, bucket: TokenBucket, wait: float) -> RpcError:
    words = f"{share.of} {share.name} exceeds its rate of calls; wait retry_after_ms"
    wait_ms = 1 + int(wait * 1000)
    return share_error(setting, share.of, bucket.rate, words, code=ErrorCode.RATE_LIMITED, retry_after_ms=wait_ms)


def _may_act_as(metadata: bytes) -> bool:
    """Whether metadata may have an ``act_as``, perhaps with escapes in its name. By ``in`` it would take longer."""
    return metadata.find(b"act_as") >= 0 or metadata.find(b"\\") >= 0


def _malformed(message: Malformed) -> bytes:
    error = RpcError(message.code, message.message)
    return jsonrpc.encode_error(jsonrpc.encode_id(message.id), jsonrpc.encode_error_object(error))
