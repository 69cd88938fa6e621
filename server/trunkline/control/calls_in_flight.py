"""``system.calls`` and ``system.cancel``: the calls in flight of all principals, and the end of one of them."""

from __future__ import annotations

import heapq
import itertools
import time
from collections.abc import Iterable
from typing import Protocol

from trunkline.hub.connection import ClientCall, Connection, NotificationCall
from trunkline.hub.dispatch import Handlers, replying
from trunkline_protocol.calls import Call
from trunkline_protocol.errors import ErrorCode, RpcError
from trunkline_protocol.hub_methods import SYSTEM_CALLS, SYSTEM_CANCEL
from trunkline_protocol.reports import CallInFlight, CallList, CallsParams, CancelledCall, CancelParams

_numbers = itertools.count(1)


class CallsView(Protocol):
    """The part of the router that is used here."""

    in_flight: int

    def calls(self) -> Iterable[Call]:
        """The calls in flight but those to the hub's own methods, in no particular order."""


class CallsInFlight:
    """Answers ``system.calls`` and ``system.cancel``.

    Args:
        router: has the calls.
    """

    def __init__(self, router: CallsView) -> None:
        self._router = router

    def methods(self) -> Handlers:
        """Handlers of ``system.calls`` and ``system.cancel``."""
        return replying(SYSTEM_CALLS, self._list) | replying(SYSTEM_CANCEL, self._cancel)

    def _list(self, _call: Call, params: CallsParams) -> CallList:
        now = time.monotonic()
        calls = list(self._router.calls())
        oldest = heapq.nsmallest(params.limit, calls, key=lambda call: call.received)
        listed = [described(call, now) for call in oldest]
        return CallList(listed, len(calls) - len(listed))

    def _cancel(self, call: Call, params: CancelParams) -> CancelledCall:
        number = params.call
        target = next((other for other in self._router.calls() if other.number == number), None) if number else None
        if target is not None:
            words = f"{target.method} was cancelled by {principal_of(call) or 'the hub'}"
            target.settle_error(RpcError(ErrorCode.CANCELLED, words, maybe_executed=target.maybe_executed))
            target.cancel_execution()
        return CancelledCall(number, target is not None)


def described(call: Call, now: float) -> CallInFlight:
    """The report of a call in flight. The first report gives the call its number."""
    if not call.number:
        call.number = next(_numbers)
    connection = connection_of(call)
    return CallInFlight(
        call=call.number,
        method=call.method[:200],
        id=call.id if isinstance(call, ClientCall) else None,
        principal=principal_of(call),
        tenant=tenant_of(call),
        connection=None if connection is None else connection.number,
        state="queued" if call.executor is None else "running",
        executor=executor_name(call),
        age_ms=round(1000 * (now - call.received), 1),
        running_ms=None if call.executor is None else round(1000 * (now - call.received - call.waited), 1),
        chunks=call.chunks,
        depth=call.depth,
        trace_id=trace_id(call),
    )


def principal_of(call: Call) -> str | None:
    """The name of the principal on whose behalf a call is made, however deep; None for the hub itself."""
    caller = call.caller()
    return None if caller is None else caller.name


def tenant_of(call: Call) -> str | None:
    """The tenant of the principal on whose behalf a call is made, however deep; None for the hub itself."""
    caller = call.caller()
    return None if caller is None else caller.tenant


def connection_of(call: Call) -> Connection | None:
    """The connection that made a call; None for calls of methods and of the hub."""
    return call.connection if isinstance(call, (ClientCall, NotificationCall)) else None


def executor_name(call: Call) -> str | None:
    """Who runs a call, or ran it last: ``executor-3``, or ``connection 17`` of a client that serves the method."""
    name: str | None = getattr(call.executor, "name", None)
    return name


def trace_id(call: Call) -> str | None:
    """The id of the trace that a call is part of, or None."""
    return None if call.trace is None else call.trace.trace_id
