"""The door of framed peers: which framing and dialect they speak, and when the hub is ready for them."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Literal

from trunkline.edge.framed.peer import CLOSE_SECONDS, FramedPeer
from trunkline.edge.websocket.door import WebSocketDoor
from trunkline_protocol.codecs.command_bus import CommandBusDialect
from trunkline_protocol.codecs.dspy_port import DspyPortDialect
from trunkline_protocol.codecs.plain import FramedDialect, PlainDialect
from trunkline_protocol.framing import Framing, FramingName, framing

DialectName = Literal["jsonrpc", "command-bus", "dspy-port"]


class FramedDoor:
    """What the framed peers of one place share.

    Args:
        shared: limits, services and the list of all connections of the hub.
        framing: how frames are told apart.
        dialect: what they say.
        version: of this hub, for dialects that introduce themselves.
        input_over: told, once, of a peer that sends nothing more and is still answered.
        left: told of each peer that has ended.
        close_seconds: how long a peer may take to fetch what it is told last; None where somebody else sees to that.

    Attributes:
        peers: those that are connected.
        causes: why the hub does not serve, in words; None until it was ready for the first time, or failed to be.
    """

    def __init__(
        self,
        shared: WebSocketDoor,
        framing: FramingName,
        dialect: DialectName,
        version: str,
        *,
        input_over: Callable[[FramedPeer], None],
        left: Callable[[FramedPeer], None] = lambda _: None,
        close_seconds: float | None = CLOSE_SECONDS,
    ) -> None:
        self.shared = shared
        self.peers: dict[FramedPeer, None] = {}
        self.causes: list[str] | None = None
        self.input_over = input_over
        self.left = left
        self.close_seconds = close_seconds
        self._framing: FramingName = framing
        self._dialect: DialectName = dialect
        self._version = version

    def framing(self) -> Framing:
        """A new one, for one peer."""
        return framing(self._framing, self.shared.max_message_bytes)

    def dialect(self) -> FramedDialect:
        """A new one, for one peer."""
        return make_dialect(self._dialect, self.shared.max_message_bytes, self._version)

    def open(self, causes: list[str]) -> None:
        """The hub serves now; or it does not, for these causes. Only the first time counts."""
        if self.causes is None:
            self.causes = causes
            for peer in tuple(self.peers):
                peer.open_gate(causes)


def make_dialect(name: DialectName, max_bytes: int, version: str) -> FramedDialect:
    """A new one, for one peer.

    Args:
        max_bytes: how large a message may be, where it comes in parts.
        version: of this program.
    """
    if name == "command-bus":
        return CommandBusDialect()
    if name == "dspy-port":
        return DspyPortDialect(max_bytes, version, os.getpid(), _now)
    return PlainDialect()


def _now() -> str:
    return datetime.now(UTC).isoformat()
