"""What a door needs of a dialect: a pure translation between the frames of one peer and JSON-RPC messages.

The hub knows JSON-RPC only. A peer that speaks something else has a :class:`Dialect` between its socket and the hub; it
may have state (which channels were joined, which request an answer belongs to), and neither IO nor a clock.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from trunkline_protocol.errors import RpcError


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame of a peer: UTF-8 text, or binary."""

    payload: bytes
    binary: bool = False


@dataclass(frozen=True, slots=True)
class Deferred:
    """A large request, translated only if the hub does not refuse it whatever its params are.

    Attributes:
        method: what it calls.
        envelope: the JSON-RPC request without its params.
        translate: makes the whole JSON-RPC request. Raises RpcError where it cannot be made.
    """

    method: str
    envelope: bytes
    translate: Callable[[], bytes]


@dataclass(frozen=True, slots=True)
class Received:
    """A frame of the peer, translated.

    Attributes:
        to_hub: JSON-RPC messages, in order.
        to_peer: answers the dialect gives itself (a heartbeat, a refusal). They go out at once.
        deferred: instead of both, a large request.
    """

    to_hub: tuple[bytes, ...] = ()
    to_peer: tuple[Frame, ...] = ()
    deferred: Deferred | None = None


class DialectViolation(Exception):
    """The peer broke a rule of the dialect, so that the connection has to be closed.

    Args:
        code: a WebSocket close code, for doors that have such.
        reason: names what was wrong, never contents.
        last: what to send before the end.
    """

    def __init__(self, code: int, reason: str, last: tuple[Frame, ...] = ()) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason
        self.last = last


class Dialect(Protocol):
    """Translates between the frames of one peer and JSON-RPC messages."""

    def receive(self, frame: Frame) -> Received:
        """Translate a frame of the peer. What is wrong with it is answered where that is possible.

        Raises:
            DialectViolation: the conversation cannot go on.
        """

    def send(self, message: bytes) -> list[Frame]:
        """Translate one JSON-RPC message (or batch) of the hub; often one frame, sometimes none or several."""

    def refuse(self, error: RpcError) -> list[Frame]:
        """The frames that carry an error about no request in particular, such as a text that is not JSON."""
