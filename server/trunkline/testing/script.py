"""What a mock hub was called with, and the calls and connections that it is to refuse. Outlives restarts."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import msgspec
from typing_extensions import override

from trunkline.hub.connection import NotificationCall
from trunkline.hub.router import Router
from trunkline.methods.wire_values import decode
from trunkline_protocol.calls import Call
from trunkline_protocol.errors import RpcError


@dataclass(frozen=True, slots=True)
class MockCall:
    """A call that a client made of a method that is not the hub's own.

    Attributes:
        method: its name, whether or not anybody serves it.
        params: as the client sent them, usually a dict; ``{}`` where it sent none.
        metadata: as the client sent it.
        is_notification: whether nobody waits for an answer.
    """

    method: str
    params: Any
    metadata: dict[str, Any]
    is_notification: bool


@dataclass(slots=True)
class _Refusal:
    """The error that the next calls of a method end with."""

    method: str
    error: RpcError
    left: int


@dataclass(slots=True)
class Script:
    """What was called, and what is to be refused.

    Attributes:
        calls: what clients called, the oldest first.
        refusals: of calls.
        no_entry: the error that connections are refused with; None for none.
    """

    calls: list[MockCall] = field(default_factory=list)
    refusals: list[_Refusal] = field(default_factory=list)
    no_entry: RpcError | None = None

    def refuse(self, method: str, error: RpcError, times: int) -> None:
        """Let the next calls of a method end with an error."""
        self.refusals.append(_Refusal(method, error, times))

    def take_refusal(self, method: str) -> RpcError | None:
        """The error that a call of a method is to end with now, if any."""
        found = next((refusal for refusal in self.refusals if refusal.method == method), None)
        if found is None:
            return None
        found.left -= 1
        if not found.left:
            self.refusals.remove(found)
        return _copy(found.error)

    def admit(self) -> None:
        """Raise the error that connections are refused with now, if any."""
        if self.no_entry is not None:
            raise _copy(self.no_entry)


class MockRouter(Router):
    """The hub's router, which also writes down what clients call, and refuses what the script says.

    Attributes:
        script: set right after the router was made.
    """

    script: Script

    @override
    def route(self, call: Call, refusal: RpcError | None = None) -> None:
        if call.depth == 0 and call.caller() is not None and not self.answers(call.method):
            self.script.calls.append(_call_of(call))
            if refusal is None and not self.draining:
                refusal = self.script.take_refusal(call.method)
        super().route(call, refusal)


def _call_of(call: Call) -> MockCall:
    metadata = _read(call.metadata) if call.metadata else {}
    return MockCall(call.method, _read(call.params), metadata, isinstance(call, NotificationCall))


def _read(data: bytes) -> Any:
    """The value of some JSON; its text where that cannot be read, which the hub tells the caller."""
    try:
        return decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return data.decode(errors="replace")


def _copy(error: RpcError) -> RpcError:
    """Another error that says the same: what refuses a call adds to its data."""
    return RpcError.from_wire(error.to_wire())
