"""Frames about calls that methods make: they become calls of the hub, and what the method does with them follows."""

from __future__ import annotations

from collections.abc import Callable

from trunkline.executors import ipc
from trunkline.executors.handle import ExecutorHandle
from trunkline.executors.nested import NestedCall
from trunkline_protocol.calls import Call
from trunkline_protocol.catalogue import Lane
from trunkline_protocol.codecs.jsonrpc import encode_error_object
from trunkline_protocol.errors import ErrorCode, RpcError


class Nesting:
    """The frames NESTED_CALL, NESTED_CANCEL and NESTED_CREDIT.

    Args:
        route: where the calls go.
        freed: called when a method waits for its call, and so has given its slot back.
    """

    def __init__(self, route: Callable[[Call], None], freed: Callable[[ExecutorHandle, Lane], None]) -> None:
        self._route = route
        self._freed = freed

    def on_call(self, handle: ExecutorHandle, call_id: int, body: bytes) -> None:
        """A method calls another."""
        parent_key, nested = ipc.parse_nested_call(body)
        parent = handle.in_flight.get(parent_key)
        if parent is None:  # its caller's call is over, and so is whatever it left behind
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

    def on_cancel(self, handle: ExecutorHandle, call_id: int, _body: bytes) -> None:
        """It does not want the outcome any more."""
        call = handle.nested.get(call_id)
        if call is not None:
            call.abandon()
            handle.nested_finished(call_id, call.parent)

    def on_credit(self, handle: ExecutorHandle, call_id: int, body: bytes) -> None:
        """It has read on."""
        call = handle.nested.get(call_id)
        if call is not None and call.backend is not None:
            call.backend.grant(call, ipc.parse_credit(body))
