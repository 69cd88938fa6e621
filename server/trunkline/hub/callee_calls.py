"""Calls of the methods that clients serve: which client (callee) runs one, what it sends, and how the call ends.

To its callee the hub is the caller: requests with ids ``h:<n>``, answered by responses, chunks and progress just as the
hub answers clients.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from functools import partial
from typing import Final

import msgspec
from typing_extensions import override

from trunkline.hub.callee_messages import (
    CalleeChunk,
    CalleeProgress,
    NamedChunk,
    metadata_for,
    problem_of,
    require_readable,
)
from trunkline.hub.callees import Callee, ServedMethod, contract, how_cancelled, may_move
from trunkline.hub.connection import Callees, Connection
from trunkline_protocol.backlog import Backlog, QueueLimits
from trunkline_protocol.calls import Call, CallBackend, TenantBackend
from trunkline_protocol.catalogue import CLIENT_PACK, MethodInfo
from trunkline_protocol.codecs import jsonrpc
from trunkline_protocol.codecs.answers import unreadable
from trunkline_protocol.depth import require_depth
from trunkline_protocol.errors import ErrorCode, RpcError
from trunkline_protocol.messages import UNREADABLE, Response
from trunkline_protocol.principals import DEFAULT_TENANT, ENCODED_HUB
from trunkline_protocol.tenant_turns import take_turns_by_tenant
from trunkline_protocol.tenants import SharedNames, name_in

RETRY_AFTER_MS: Final = 1000
"""The hint of a refusal because too many calls wait for callees, whose speed the hub does not know."""

NOT_EXECUTED: Final = frozenset({ErrorCode.METHOD_NOT_FOUND, ErrorCode.INVALID_PARAMS, ErrorCode.WORKER_OVERLOADED})
"""Errors by which a callee says that it has executed nothing."""

_encoder: Final = msgspec.json.Encoder()

logger = logging.getLogger("trunkline.hub")


class _Running:
    """A call that a callee runs, since when; ``granted`` counts the chunks that the reader has consumed."""

    __slots__ = ("call", "callee", "granted", "since")

    def __init__(self, callee: Callee, call: Call) -> None:
        self.callee = callee
        self.call = call
        self.granted = 0
        self.since = time.monotonic()


class CalleeCalls(TenantBackend, Callees):
    """The backend of all calls: those of registered methods are run by clients, others are passed to the executors.

    Methods are kept by their keys: the name, with the tenant in front where it is another's than ``default``.

    Args:
        executors: the backend of other methods.
        shared: the names that all tenants have in common.
        queue_limits: of calls that wait for callees, counted apart from those that wait for executors.
    """

    def __init__(self, executors: CallBackend, shared: SharedNames, queue_limits: QueueLimits) -> None:
        self._executors = executors
        self._shared = shared
        self._methods: dict[str, ServedMethod] = {}
        self._running: dict[str, _Running] = {}
        self._backlog: Backlog[str] = Backlog(queue_limits, lambda: RETRY_AFTER_MS)
        self.take_turns_by_tenant = partial(take_turns_by_tenant, self._backlog, queue_limits)
        self._ids = itertools.count(1)

    @property
    def waiting(self) -> int:
        """How many calls wait for a callee."""
        return self._backlog.waiting

    def free(self, callee: Callee, key: str) -> None:
        """Note that a callee has ended a call: one that leaves is forgotten with its last one."""
        raise NotImplementedError

    # --- calls, from the router ---

    @override
    def find_for(self, call: Call) -> MethodInfo:
        try:
            return self._executors.find(call.method)
        except RpcError:
            caller = call.caller()
            registered = self._registered(DEFAULT_TENANT if caller is None else caller.tenant, call.method)
            if registered is None:
                raise
            return registered.routed

    @override
    def find_in(self, tenant: str, method: str) -> MethodInfo:
        try:
            return self._executors.find(method)
        except RpcError:
            registered = self._registered(tenant, method)
            if registered is None:
                raise
            return registered.info

    def _registered(self, tenant: str, method: str) -> ServedMethod | None:
        return self._methods.get(method if tenant == DEFAULT_TENANT else self._shared.key(tenant, method))

    @override
    def serves(self, method: str) -> bool:
        return any(name_in(key) == method for key in self._methods)

    @override
    def submit(self, call: Call) -> None:
        assert call.info is not None
        if call.info.pack != CLIENT_PACK:
            call.backend = self._executors
            self._executors.submit(call)
            return
        key = call.info.name
        registered = self._methods.get(key)
        if registered is None:
            raise nobody(call.method)
        require_readable(call)
        require_depth(call.params, f"{call.method}: params")  # executors check this themselves
        callee = None if self._backlog.has(key) else registered.next_callee(time.monotonic())
        if callee is not None:
            self._dispatch(callee, call)
        else:
            self._backlog.push(call, key)
            self.refill(registered)

    def refill(self, registered: ServedMethod) -> None:
        """Dispatch waiting calls to the least busy callees."""
        key, now = registered.key, time.monotonic()
        while self._backlog.has(key) and (callee := registered.next_callee(now)) is not None:
            call = self._backlog.pop(key)
            assert call is not None
            call.waited = now - call.received
            self._dispatch(callee, call)

    def _dispatch(self, callee: Callee, call: Call) -> None:
        call.key = next(self._ids)
        request_id = _id_of(call)
        caller = call.caller()
        who = ENCODED_HUB if caller is None else caller.encoded
        metadata = metadata_for(call, request_id)
        request = jsonrpc.encode_request(request_id, call.method, call.params, metadata, who)
        call.executor = callee
        call.attempts += 1
        callee.standing.asked(time.monotonic())
        callee.running[request_id] = call
        self._running[request_id] = _Running(callee, call)
        callee.connection.outbox.send(request)

    @override
    def cancel(self, call: Call) -> None:
        if call.executor is None:
            self._backlog.remove(call, _key_of(call))
        elif (running := self._running.get(_id_of(call))) is not None and running.call is call:
            running.callee.connection.outbox.send(jsonrpc.encode_cancel(_id_of(call)))
            # No answer is awaited: a callee that ignores the cancel must not occupy its slot for ever.
            self._finished(_id_of(call), running, how_cancelled(call, running.since))

    @override
    def grant(self, call: Call, consumed: int) -> None:
        call.last_activity = time.monotonic()
        running = self._running.get(_id_of(call))
        if running is not None and running.call is call:
            running.granted = consumed
            credit = jsonrpc.encode_input_credit(_encoder.encode(_id_of(call)), consumed)
            running.callee.connection.outbox.send(credit)

    @override
    def push(self, call: Call, index: int, data: bytes, final: bool) -> None:
        raise RpcError(ErrorCode.INVALID_PARAMS, f"stream.push: {call.method} takes no input")

    # --- what callees send ---

    @override
    def answered(self, connection: Connection, response: Response) -> bool:
        running = self._find(connection, response.id)
        if running is None:
            return False
        call = running.call
        if response.fault is not None:
            self._unreadable(running, response.fault.message)
            return True
        error = None if response.error is None else RpcError.from_wire(response.error)
        self._finished(str(response.id), running, 0 if error is None else error.code)
        if error is not None:
            error.maybe_executed = error.maybe_executed or error.code not in NOT_EXECUTED
            call.settle_error(error)
        else:
            call.settle_result(b"null" if response.result is msgspec.UNSET else bytes(response.result))
        return True

    def _unreadable(self, running: _Running, problem: str) -> None:
        """Fail a call whose callee sent what cannot be passed on: what follows would be incomplete."""
        call = running.call
        words = f"the client that serves {call.method} sent a message that cannot be passed on: {problem}"
        call.settle_error(RpcError(ErrorCode.SERIALIZATION_ERROR, words, maybe_executed=True))
        running.callee.connection.outbox.send(jsonrpc.encode_cancel(_id_of(call)))
        self._finished(_id_of(call), running, ErrorCode.SERIALIZATION_ERROR)

    @override
    def chunk(self, connection: Connection, params: bytes) -> None:
        try:
            chunk = msgspec.json.decode(params, type=CalleeChunk)
        except UNREADABLE as error:
            self._bad_chunk(connection, params, str(error))
            return
        running = self._find(connection, chunk.request_id)
        if running is None or chunk.is_final:
            return
        call = running.call
        call.last_activity = time.monotonic()
        assert call.info is not None
        problem = problem_of(chunk, call, running.granted, call.info.streaming)
        if problem is None:
            call.stream(_encoder.encode(chunk.chunk_type), bytes(chunk.data))
            return
        self._unreadable(running, problem)

    def _bad_chunk(self, connection: Connection, params: bytes, problem: str) -> None:
        try:
            request_id = msgspec.json.decode(params, type=NamedChunk).request_id
        except UNREADABLE:
            return  # no call can be told that its chunk was invalid
        running = self._find(connection, request_id)
        if running is not None:
            self._unreadable(running, f"a chunk: {problem}")

    @override
    def progress(self, connection: Connection, params: bytes) -> None:
        try:
            progress = msgspec.json.decode(params, type=CalleeProgress)
        except UNREADABLE:
            return
        running = self._find(connection, progress.token)
        if running is not None and (problem := unreadable(progress.value)) is not None:
            call = running.call
            words, said = (
                "progress of a call of %s is invalid, and not passed on: %s",
                {"request_id": call.request_id()},
            )
            logger.info(words, call.method, problem, extra=said)
        elif running is not None:
            running.call.last_activity = time.monotonic()
            running.call.progress(bytes(progress.value))

    def _find(self, connection: Connection, request_id: object) -> _Running | None:
        running = self._running.get(request_id) if isinstance(request_id, str) else None
        return running if running is not None and running.callee.connection is connection else None

    def _finished(self, request_id: str, running: _Running, code: int) -> None:
        del self._running[request_id]
        callee, key = running.callee, _key_of(running.call)
        callee.running.pop(request_id, None)
        self.free(callee, key)
        registered = self._methods.get(key)
        if registered is not None:
            now = time.monotonic()
            if not callee.is_leaving and registered.answered(callee, code, now):
                self._ejected(callee, key, now)
            self.refill(registered)

    def _ejected(self, callee: Callee, key: str, now: float) -> None:
        seconds, name = callee.standing.ejected_until - now, name_in(key)
        logger.warning("%s gets no calls of %s for %.0f s: it failed too many in a row", callee.name, name, seconds)
        # Calls may wait by then, and nothing else may wake them.
        asyncio.get_running_loop().call_later(seconds, self.refill_method, key)

    def refill_method(self, key: str) -> None:
        """Dispatch waiting calls of a method, if it is served."""
        if (registered := self._methods.get(key)) is not None:
            self.refill(registered)

    # --- callees that are gone ---

    def lost(self, callee: Callee) -> None:
        """End the calls that a callee ran, whose connection is gone, or have another one run them."""
        running, callee.running = callee.running, {}
        for request_id, call in running.items():
            del self._running[request_id]
            if not call.settled:
                self._lost(call)

    def _lost(self, call: Call) -> None:
        assert call.info is not None
        key = call.info.name
        registered = self._methods.get(key)
        call.executor = None
        # The present callees may have registered the name with other flags than the call was routed by.
        is_served = registered is not None and contract(registered.info) == contract(call.info)
        if registered is not None and is_served and may_move(call):
            self._backlog.push_front(call, key)
            self.refill(registered)
            return
        call.settle_error(
            RpcError(ErrorCode.WORKER_CRASHED, f"the client that ran {call.method} is gone", maybe_executed=True)
        )

    def end_waiting(self, key: str) -> None:
        """End the calls that wait for a method that nobody serves any more."""
        for call in self._backlog.close(key):
            left = nobody(name_in(key))
            left.maybe_executed = call.maybe_executed
            call.settle_error(left)


def _id_of(call: Call) -> str:
    return f"h:{call.key}"


def _key_of(call: Call) -> str:
    assert call.info is not None  # it was routed
    return call.info.name


def nobody(name: str) -> RpcError:
    """The error of a call whose method was served when it came, and is no more."""
    return RpcError(ErrorCode.WORKER_UNAVAILABLE, f"no client serves {name} any more", retry_after_ms=1000)
