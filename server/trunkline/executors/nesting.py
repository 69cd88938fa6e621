"""Calls that methods in executors make through the hub, and their frames in both directions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Generic, Protocol, TypeVar

from typing_extensions import override

from trunkline.executors import ipc
from trunkline_protocol.calls import Call, Caller
from trunkline_protocol.catalogue import Lane
from trunkline_protocol.codecs.jsonrpc import encode_error_object
from trunkline_protocol.errors import ErrorCode, RpcError
from trunkline_protocol.principals import ENCODED_EXECUTOR, EXECUTOR
from trunkline_protocol.topics import is_hubs_own, is_system


class NestedCaller(Protocol):
    """The executor that made a nested call, as far as that call needs it.

    Attributes:
        in_flight: the executor's calls, by key.
        nested: the calls that its methods have made, by id.
    """

    in_flight: dict[int, Call]
    nested: dict[int, NestedCall]

    def send(self, frame: bytes) -> None:
        """Send a frame to the executor."""

    def nested_started(self, call_id: int, parent: int, call: NestedCall) -> None:
        """Free the slot of a method, which waits for a call of its own."""

    def nested_finished(self, call_id: int, parent: int) -> None:
        """Give the method its slot back: the call that it made is over."""


OWN: Final = 0
"""The parent of what an executor calls outside of any call: keys of calls begin at 1."""

CallerT = TypeVar("CallerT", bound=NestedCaller)


class NestedCall(Call):
    """A call made by a method, on behalf of the caller of ``outer``; its deadline is never later than that call's.

    Attributes:
        made_by: the executor that runs the method.
        parent: the key, in that executor, of the call that made this one.
        outer: the call that made this one.
    """

    __slots__ = ("_id", "made_by", "outer", "parent")

    def __init__(self, made_by: NestedCaller, call_id: int, parent: int, body: ipc.CallBody, outer: Call) -> None:
        Call.__init__(self, body.method, body.params, body.metadata, depth=body.depth)
        self.deadline = body.deadline
        self.made_by = made_by
        self._id = call_id
        self.parent = parent
        self.outer = outer

    @override
    def deliver_result(self, result: bytes) -> None:
        self.made_by.nested_finished(self._id, self.parent)
        self.made_by.send(ipc.frame(ipc.NESTED_RESULT, self._id, result))

    @override
    def deliver_error(self, error: RpcError) -> None:
        self.made_by.nested_finished(self._id, self.parent)
        self.made_by.send(ipc.frame(ipc.NESTED_ERROR, self._id, encode_error_object(error)))

    @override
    def caller(self) -> Caller | None:
        outer = self.outer
        caller = outer.caller()
        if caller is not None and outer.info is not None and outer.info.runs_as == "method":
            return caller.as_method(outer.method)
        return caller

    @property
    @override
    def outer_method(self) -> str:
        return self.outer.method

    @override
    def origin(self) -> Call:
        return self.outer.origin()

    @override
    def deliver_chunk(self, chunk_type: bytes, data: bytes) -> None:
        self.made_by.send(ipc.frame(ipc.NESTED_CHUNK, self._id, ipc.chunk_body(chunk_type, data)))

    @override
    def deliver_progress(self, value: bytes) -> None:
        pass


class _ExecutorsOwn:
    """The principal of an executor's own calls: every method and topic, except what requires a role."""

    name, roles, tenant, claims = EXECUTOR.name, EXECUTOR.roles, EXECUTOR.tenant, EXECUTOR.claims
    owner = EXECUTOR.name
    encoded = ENCODED_EXECUTOR
    methods = subscribe = publish = collections = None
    acting = actor = ""

    def has_role(self, _role: str) -> bool:
        return False

    def may_call(self, _method: str) -> bool:
        return True

    def may_publish(self, topic: str) -> bool:
        return not is_hubs_own(topic)

    def may_subscribe(self, pattern: str) -> bool:
        return not is_system(pattern)

    def require_collection(self, _collection: str) -> None:
        """Refuse none."""

    def as_method(self, _method: str) -> _ExecutorsOwn:
        return self


_OWN: Final = _ExecutorsOwn()


class OwnCall(NestedCall):
    """A call that an executor makes outside of any call."""

    __slots__ = ()

    def __init__(self, made_by: NestedCaller, call_id: int, body: ipc.CallBody) -> None:
        NestedCall.__init__(self, made_by, call_id, OWN, body._replace(depth=0), self)

    @override
    def caller(self) -> Caller:
        return _OWN

    @property
    @override
    def outer_method(self) -> str:
        return ""

    @override
    def origin(self) -> Call:
        return self


class Nesting(Generic[CallerT]):
    """Handles the frames NESTED_CALL, NESTED_CANCEL and NESTED_CREDIT.

    Args:
        route: takes the calls.
        freed: called with executor and lane when a method has freed its slot.
    """

    def __init__(self, route: Callable[[Call], None], freed: Callable[[CallerT, Lane], None]) -> None:
        self._route = route
        self._freed = freed

    def on_call(self, handle: CallerT, call_id: int, body: bytes) -> None:
        """Handle NESTED_CALL: a method calls another."""
        parent_key, nested = ipc.parse_nested_call(body)
        if parent_key == OWN:
            own = OwnCall(handle, call_id, nested)
            handle.nested_started(call_id, OWN, own)
            self._route(own)
            return
        parent = handle.in_flight.get(parent_key)
        if parent is None:  # the call that made it is over already
            gone = RpcError(ErrorCode.CANCELLED, f"the call that called {nested.method} is over")
            handle.send(ipc.frame(ipc.NESTED_ERROR, call_id, encode_error_object(gone)))
            return
        call = NestedCall(handle, call_id, parent_key, nested, parent)
        call.priority = parent.priority
        call.flow = parent.flow
        handle.nested_started(call_id, parent_key, call)
        if parent.info is not None:
            self._freed(handle, parent.info.lane)
        self._route(call)

    def on_cancel(self, handle: CallerT, call_id: int, _body: bytes) -> None:
        """Handle NESTED_CANCEL: the method does not want the outcome any more."""
        call = handle.nested.get(call_id)
        if call is not None:
            call.abandon()
            handle.nested_finished(call_id, call.parent)

    def on_credit(self, handle: CallerT, call_id: int, body: bytes) -> None:
        """Handle NESTED_CREDIT: the method has read more of the stream."""
        call = handle.nested.get(call_id)
        if call is not None and call.backend is not None:
            call.backend.grant(call, ipc.parse_credit(body))
