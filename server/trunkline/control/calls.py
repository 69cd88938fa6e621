"""``system.calls`` and ``system.cancel``: what is in flight, whoever asked for it, and an end to one of them."""

from __future__ import annotations

import heapq
import itertools
import time
from collections.abc import Callable, Iterable
from typing import Annotated, Any, Final, Protocol

import msgspec

from trunkline.control.method import describe
from trunkline.hub.client_calls import ClientCall, NotificationCall, decode_params
from trunkline.hub.principal import ADMIN
from trunkline_protocol.calls import Call
from trunkline_protocol.errors import ErrorCode, RpcError

MAX_CALLS: Final = 500
"""Of those in flight that one answer lists, the oldest first."""

_encoder: Final = msgspec.json.Encoder()
_numbers = itertools.count(1)


class CallsView(Protocol):
    """The router, as far as it is needed here."""

    in_flight: int

    def calls(self) -> Iterable[Call]:
        """The calls in flight that somebody else than the hub answers, in no order."""


class CallsParams(msgspec.Struct, forbid_unknown_fields=True):
    """Params of ``system.calls``."""

    limit: Annotated[int, msgspec.Meta(ge=1, le=MAX_CALLS)] = MAX_CALLS


class CancelParams(msgspec.Struct, forbid_unknown_fields=True):
    """Params of ``system.cancel``; ``call`` is a number of ``system.calls``."""

    call: int


ADMIN_METHODS: Final = (
    describe("system.calls", "The calls in flight, the oldest first (role admin)", CallsParams, idempotent=True),
    describe("system.cancel", "End somebody's call with -32800 (role admin)", CancelParams, idempotent=True),
)


class CallsInFlight:
    """Answers both.

    Args:
        router: keeps the calls.
    """

    def __init__(self, router: CallsView) -> None:
        self._router = router

    def methods(self) -> dict[str, Callable[[Call], None]]:
        """The calls of this file, by name."""
        return {"system.calls": self._list, "system.cancel": self._cancel}

    def _list(self, call: Call) -> None:
        require_admin(call)
        limit = MAX_CALLS if call.params.strip() == b"[]" else decode_params(call, CallsParams).limit
        now = time.monotonic()
        calls = list(self._router.calls())
        oldest = heapq.nsmallest(limit, calls, key=lambda call: call.received)
        listed = [described(call, now) for call in oldest]
        call.settle_result(_encoder.encode({"calls": listed, "more": len(calls) - len(listed)}))

    def _cancel(self, call: Call) -> None:
        require_admin(call)
        number = decode_params(call, CancelParams).call
        target = next((other for other in self._router.calls() if other.number == number), None) if number else None
        if target is not None:
            words = f"{target.method} was cancelled by {principal_of(call) or 'the hub'}"
            target.settle_error(RpcError(ErrorCode.CANCELLED, words, maybe_executed=target.maybe_executed))
            target.cancel_execution()
        call.settle_result(_encoder.encode({"call": number, "cancelled": target is not None}))


def described(call: Call, now: float) -> dict[str, Any]:
    """One call in flight, as data; ``number`` stays with it."""
    if not call.number:
        call.number = next(_numbers)
    connection = connection_of(call)
    return {
        "call": call.number,
        "method": call.method[:200],
        "id": call.id if isinstance(call, ClientCall) else None,
        "principal": principal_of(call),
        "connection": None if connection is None else connection.number,
        "state": "queued" if call.executor is None else "running",
        "executor": executor_name(call),
        "age_ms": round(1000 * (now - call.received), 1),
        "chunks": call.chunks,
        "depth": call.depth,
        "trace_id": trace_id(call),
    }


def principal_of(call: Call) -> str | None:
    """The name of whom a call is made for, by however many methods; None where that is the hub."""
    caller = call.caller()
    return None if caller is None else caller.name


def connection_of(call: Call) -> Any:
    """The connection that made a call; None where a method or the hub did."""
    return call.connection if isinstance(call, (ClientCall, NotificationCall)) else None


def executor_name(call: Call) -> str | None:
    """Who runs it, or ran it last: ``executor-3``, or ``connection 17``, which serves the method."""
    name: str | None = getattr(call.executor, "name", None)
    return name


def trace_id(call: Call) -> str | None:
    """The trace a call is part of."""
    return None if call.trace is None else call.trace.trace_id


def require_admin(call: Call) -> None:
    """Refuse whoever has not the role (6002), be it through methods that call for it."""
    caller = call.caller()
    if caller is not None and ADMIN not in caller.roles:
        raise RpcError(ErrorCode.FORBIDDEN, f"{caller.name} may not use {call.method} (role {ADMIN})")
