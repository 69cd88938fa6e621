"""Methods that clients serve: their registrations, and the routing of calls to the clients (callees).

To callers, and to methods that call others, a registered method is like any other. To its callee the hub is the caller:
requests with ids ``h:<n>``, answered by responses, chunks and progress just as the hub answers clients.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections.abc import Iterable
from typing import Final

import msgspec
from typing_extensions import override

from trunkline import defaults
from trunkline.hub.callee_messages import (
    CalleeChunk,
    CalleeProgress,
    NamedChunk,
    metadata_for,
    problem_of,
    require_readable,
)
from trunkline.hub.callee_schemas import MAX_SCHEMA_BYTES_IN_ALL, described, schema_bytes
from trunkline.hub.callees import Callee, KeptMethod, ServedMethod, how_cancelled, may_move, owner_of
from trunkline.hub.connection import Callees, ClientCall, Connection
from trunkline.hub.dispatch import Handlers, answering_connection
from trunkline.hub.held_registrations import HeldRegistrations
from trunkline.hub.principal import CALLEE, Principal
from trunkline.hub.registering import require_right
from trunkline_protocol.backlog import Backlog, QueueLimits
from trunkline_protocol.calls import Call, CallBackend
from trunkline_protocol.catalogue import CLIENT_PACK, MethodInfo
from trunkline_protocol.codecs import jsonrpc
from trunkline_protocol.codecs.answers import unreadable
from trunkline_protocol.depth import require_depth
from trunkline_protocol.errors import ErrorCode, RpcError
from trunkline_protocol.hub_messages import Registered, RegisterParams, Unregistered, UnregisterParams
from trunkline_protocol.hub_methods import METHOD_REGISTER, METHOD_UNREGISTER, reserved
from trunkline_protocol.messages import UNREADABLE, Response
from trunkline_protocol.principals import ENCODED_HUB

MAX_REGISTRATIONS: Final = 256
"""Methods that one connection may register."""

MAX_VACANT: Final = 4096
"""Methods without a callee that stay known for their grace; beyond it names are forgotten at once."""

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


class Registrations(CallBackend, Callees):
    """The backend of all calls: registered methods are run by clients, the others are passed to the executors.

    Args:
        executors: the backend of other methods; names of its methods cannot be registered.
        queue_limits: of calls that wait for callees, counted apart from those that wait for executors.
        grace: seconds that a method stays known, and its calls wait, when its last callee has disconnected or drains.

    Attributes:
        grace: the same; may be changed.
    """

    def __init__(
        self, executors: CallBackend, queue_limits: QueueLimits | None = None, grace: float = defaults.CALLEE_GRACE
    ) -> None:
        self.grace = grace
        self._vacant: dict[str, asyncio.TimerHandle] = {}
        self._executors = executors
        self._methods: dict[str, ServedMethod] = {}
        self._of_connection: dict[Connection, dict[str, Callee]] = {}
        self._running: dict[str, _Running] = {}
        self._backlog: Backlog[str] = Backlog(queue_limits or QueueLimits(), lambda: RETRY_AFTER_MS)
        self._ids = itertools.count(1)
        self._held = HeldRegistrations(self._register)

    def methods(self) -> Handlers:
        """Handlers of ``method.register`` and ``method.unregister``."""
        registering = answering_connection(METHOD_REGISTER, self._register)
        return registering | answering_connection(METHOD_UNREGISTER, self._unregister)

    def infos(self) -> list[MethodInfo]:
        """The catalogue entries of the methods that clients serve now."""
        return [registered.info for registered in self._methods.values()]

    def kept(self) -> list[KeptMethod]:
        """The methods that clients serve now, for the next hub."""
        return [KeptMethod(registered.info, registered.owner) for registered in self._methods.values()]

    def may_keep(self, connection: Connection, principal: Principal) -> bool:
        """Whether a connection would still be allowed to register all that it serves, as this principal."""
        own = self._of_connection.get(connection, {})
        return not own or (principal.has_role(CALLEE) and all(map(principal.may_register, own)))

    def executors_changed(self) -> None:
        """Decide on registrations that came before it was known what the executors serve."""
        self._held.executors_changed()

    def presence(self) -> dict[str, bool]:
        """The names of the methods, and whether one of their clients is connected: else they wait to be resumed."""
        return {
            name: any(connection.is_attached for connection in registered.callees)
            for name, registered in self._methods.items()
        }

    @property
    def ejected(self) -> int:
        """How many callees get no calls for a while, because theirs fail where others' do not."""
        now = time.monotonic()
        methods = self._methods.values()
        return sum(callee.standing.is_ejected(now) for method in methods for callee in method.callees.values())

    @property
    def waiting(self) -> int:
        """How many calls wait for a callee."""
        return self._backlog.waiting

    # --- registering ---

    def _register(self, call: ClientCall, params: RegisterParams) -> None:
        connection, name = call.connection, params.method
        require_right(connection.principal, params)
        if name not in self._methods and (starting := self._not_known_yet(name)) is not None:
            self._held.hold(call, params, starting)
            return
        if self._is_executors(name):
            words = f"method.register: {name} is a method of the executors; register another name"
            raise RpcError(ErrorCode.FORBIDDEN, words)
        own = self._of_connection.setdefault(connection, {})
        others = sum(not callee.is_leaving for other, callee in own.items() if other != name)
        if others >= MAX_REGISTRATIONS:
            raise RpcError(ErrorCode.RESOURCE_EXHAUSTED, f"a connection registers at most {MAX_REGISTRATIONS} methods")
        if name not in own:
            connection.require_registration()
        info, size = described(params), schema_bytes(params)
        if size:
            self._require_room(name, size)
        registered = self._registered(connection, info)
        registered.info, registered.schema_bytes = info, size  # what the new version of a service says is true now
        callee = own.get(name)
        if callee is None:
            callee = own[name] = Callee(connection, params.max_concurrency)
            connection.share.registrations += 1
        registered.callees[connection] = callee
        if (vacancy := self._vacant.pop(name, None)) is not None:
            vacancy.cancel()
        callee.is_leaving = False
        callee.tell_drained(name)
        callee.limit = params.max_concurrency
        call.settle_result(_encoder.encode(Registered(name, len(registered.callees))))
        self._refill(registered)

    def _require_room(self, name: str, size: int) -> None:
        others = sum(registered.schema_bytes for other, registered in self._methods.items() if other != name)
        if others + size > MAX_SCHEMA_BYTES_IN_ALL:
            words = f"method.register: the JSON Schemas of all methods may have {MAX_SCHEMA_BYTES_IN_ALL} bytes"
            raise RpcError(ErrorCode.RESOURCE_EXHAUSTED, f"{words}, {others} are taken: register {name} without")

    def _registered(self, connection: Connection, info: MethodInfo) -> ServedMethod:
        """The method that a connection is to serve, with those that serve it already, or without any.

        Raises:
            RpcError: 6002, another principal serves it; -32602, others serve it in another way.
        """
        registered = self._methods.get(info.name)
        if registered is not None:
            registered.require_owner(connection.principal)
        if registered is not None and _contract(registered.info) != _contract(info):
            for callee in tuple(registered.callees.values()):
                callee.connection.give_way()
            if registered.callees:
                raise registered.disagreement()
            self._withdraw(info.name)
            registered = None
        if registered is None:
            registered = self._methods[info.name] = ServedMethod(info, owner_of(connection.principal))
        return registered

    def _not_known_yet(self, name: str) -> RpcError | None:
        """Why it is not known yet whether a method is one of the executors; None where it is known."""
        try:
            self._executors.find(name)
        except RpcError as error:
            return error if error.code == ErrorCode.WORKER_UNAVAILABLE else None
        return None

    def _is_executors(self, name: str) -> bool:
        try:
            return self._executors.find(name).pack != CLIENT_PACK
        except RpcError as error:
            unknown = (ErrorCode.METHOD_NOT_FOUND, ErrorCode.WORKER_UNAVAILABLE)
            return error.code not in unknown and error.data.get("known") is True  # its module failed to load

    def _unregister(self, call: ClientCall, params: UnregisterParams) -> None:
        connection, name = call.connection, params.method
        callee = self._of_connection.get(connection, {}).get(name)
        serves = callee is not None and not callee.is_leaving
        if callee is not None and serves:
            callee.is_leaving = True
            if params.drain:
                callee.drained = call
            self._leave(name, connection, for_good=not params.drain)
            self._forget_if_done(callee, name)
        if not (serves and params.drain):
            call.settle_result(_encoder.encode(Unregistered(name, serves)))

    def _forget_if_done(self, callee: Callee, name: str) -> None:
        if callee.is_leaving and not callee.running:
            if self._of_connection.get(callee.connection, {}).pop(name, None) is not None:
                callee.connection.share.registrations -= 1
            callee.tell_drained(name)

    def _leave(self, name: str, connection: Connection, *, for_good: bool) -> None:
        """Give a callee no more calls of a method; calls that it runs may finish.

        Args:
            for_good: where nobody else serves the method, it is unknown from now on.
        """
        registered = self._methods[name]
        registered.callees.pop(connection, None)
        if registered.callees:
            self._refill(registered)
        elif for_good:
            self._withdraw(name)
        else:  # a service that is restarted serves it again at once
            self._vacate(name)

    def _vacate(self, name: str) -> None:
        if not self.grace or len(self._vacant) >= MAX_VACANT:
            self._withdraw(name)
        else:
            self._vacant[name] = asyncio.get_running_loop().call_later(self.grace, self._withdraw, name)

    def expect(self, methods: Iterable[KeptMethod]) -> None:
        """Hold methods vacant: clients served them at the hub before this one, and are about to come back."""
        for kept in methods:
            name = kept.info.name
            if name not in self._methods and reserved(name) is None:
                self._methods[name] = ServedMethod(kept.info, kept.owner)
                self._vacate(name)

    def _withdraw(self, name: str) -> None:
        """Forget a method that nobody serves, and end the calls that wait for it."""
        if (vacancy := self._vacant.pop(name, None)) is not None:
            vacancy.cancel()
        self._methods.pop(name, None)
        for call in self._backlog.close(name):
            left = _nobody(name)
            left.maybe_executed = call.maybe_executed
            call.settle_error(left)

    @override
    def gone(self, connection: Connection) -> None:
        own = self._of_connection.pop(connection, {})
        connection.share.registrations -= len(own)
        for name, callee in own.items():
            if not callee.is_leaving:
                self._leave(name, connection, for_good=False)
            running, callee.running = callee.running, {}
            for request_id, call in running.items():
                del self._running[request_id]
                if not call.settled:
                    self._lost(call)

    def changed(self, connection: Connection) -> None:
        """Offer waiting calls again: the client of these registrations has resumed its session, or was detached."""
        for name in tuple(self._of_connection.get(connection, ())):
            self._refill_method(name)

    def _lost(self, call: Call) -> None:
        assert call.info is not None
        registered = self._methods.get(call.method)
        call.executor = None
        # The present callees may have registered the name with other flags than the call was routed by.
        is_served = registered is not None and _contract(registered.info) == _contract(call.info)
        if registered is not None and is_served and may_move(call):
            self._backlog.push_front(call, call.method)
            self._refill(registered)
            return
        call.settle_error(
            RpcError(ErrorCode.WORKER_CRASHED, f"the client that ran {call.method} is gone", maybe_executed=True)
        )

    # --- calls, from the router ---

    @override
    def find(self, method: str) -> MethodInfo:
        try:
            return self._executors.find(method)
        except RpcError:
            registered = self._methods.get(method)
            if registered is None:
                raise
            return registered.info

    @override
    def submit(self, call: Call) -> None:
        assert call.info is not None
        if call.info.pack != CLIENT_PACK:
            call.backend = self._executors
            self._executors.submit(call)
            return
        registered = self._methods.get(call.method)
        if registered is None:
            raise _nobody(call.method)
        require_readable(call)
        require_depth(call.params, f"{call.method}: params")  # executors check this themselves
        callee = None if self._backlog.has(call.method) else registered.next_callee(time.monotonic())
        if callee is not None:
            self._dispatch(callee, call)
        else:
            self._backlog.push(call, call.method)
            self._refill(registered)

    def _refill(self, registered: ServedMethod) -> None:
        """Dispatch waiting calls to the least busy callees."""
        name, now = registered.info.name, time.monotonic()
        while self._backlog.has(name) and (callee := registered.next_callee(now)) is not None:
            call = self._backlog.pop(name)
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
            self._backlog.remove(call, call.method)
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
        callee, name = running.callee, running.call.method
        callee.running.pop(request_id, None)
        self._forget_if_done(callee, name)
        registered = self._methods.get(name)
        if registered is not None:
            now = time.monotonic()
            if not callee.is_leaving and registered.answered(callee, code, now):
                self._ejected(callee, name, now)
            self._refill(registered)

    def _ejected(self, callee: Callee, name: str, now: float) -> None:
        seconds = callee.standing.ejected_until - now
        logger.warning("%s gets no calls of %s for %.0f s: it failed too many in a row", callee.name, name, seconds)
        # Calls may wait by then, and nothing else may wake them.
        asyncio.get_running_loop().call_later(seconds, self._refill_method, name)

    def _refill_method(self, name: str) -> None:
        if (registered := self._methods.get(name)) is not None:
            self._refill(registered)


def _id_of(call: Call) -> str:
    return f"h:{call.key}"


def _contract(info: MethodInfo) -> tuple[bool, bool]:
    return info.streaming, info.idempotent


def _nobody(name: str) -> RpcError:
    return RpcError(ErrorCode.WORKER_UNAVAILABLE, f"no client serves {name} any more", retry_after_ms=1000)
