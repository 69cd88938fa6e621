"""A call that a method in an executor makes: it goes through the hub like any other."""

from __future__ import annotations

from typing import Protocol

from typing_extensions import override

from trunkline.executors import ipc
from trunkline_protocol.calls import Call, Caller
from trunkline_protocol.codecs.jsonrpc import encode_error_object
from trunkline_protocol.errors import RpcError


class NestedCaller(Protocol):
    """The executor that made the call, as far as answering it goes.

    Attributes:
        in_flight: the calls it has, by key.
    """

    in_flight: dict[int, Call]

    def send(self, frame: bytes) -> None:
        """Send a frame to it."""

    def nested_finished(self, call_id: int, parent: int) -> None:
        """The call is over: the method that made it takes its slot back."""


class NestedCall(Call):
    """A call by a method, for the caller of ``outer``, the call it belongs to; never with a later deadline.

    Attributes:
        made_by: the executor that runs the method.
        parent: the key of the call that made this one, there.
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
