"""What a connection may have beside it, as far as it knows of that: a session, and the methods its client serves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from trunkline_protocol.session import ProtocolViolation

if TYPE_CHECKING:
    pass


class Session(Protocol):
    """What a connection knows of its session."""

    def receive(self, seq: int, size: int) -> bool:
        """A numbered frame has come. Returns whether it is to be acted on."""

    def acknowledge(self, received: int) -> None:
        """The client has everything up to this number."""

    def send_unnumbered(self, reply: bytes) -> None:
        """A reply that concerns this socket only."""

    @property
    def is_attached(self) -> bool:
        """Whether the client is there."""

    def disconnected(self) -> bool:
        """The socket is gone. Returns whether the session waits for its client."""

    def violated(self, violation: ProtocolViolation) -> None:
        """The peer broke a rule: close the connection and end the session."""

    def door_full(self) -> None:
        """The transport's buffer is full."""

    def door_free(self) -> None:
        """The transport has room again."""
