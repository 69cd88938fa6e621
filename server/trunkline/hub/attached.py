"""The session of a connection, as the connection uses it."""

from __future__ import annotations

from typing import Protocol

from trunkline_protocol.session import ProtocolViolation


class Session(Protocol):
    """The session of a connection; one implementation is :class:`trunkline.hub.resumption.SessionLink`."""

    def receive(self, seq: int, size: int) -> bool:
        """Count a numbered frame of ``size`` bytes. Returns whether it is new, and to be handled."""

    def acknowledge(self, received: int) -> None:
        """Forget what the client has received: all frames up to this number."""

    def send_unnumbered(self, reply: bytes) -> None:
        """Send a reply that is of use to the present socket only, without a number."""

    @property
    def label(self) -> str | None:
        """What logs call the session, which is not its id; None where it has ended."""

    @property
    def is_attached(self) -> bool:
        """Whether the session has a connection now."""

    def disconnected(self) -> bool:
        """Detach the session: its socket is gone. Returns whether it waits for its client now."""

    def take_no_more(self) -> None:
        """Tell the client which frames were acted on; the hub is stopping, and acts on no later one."""

    def give_way(self) -> None:
        """End the session if it is detached: its client has come back as another."""

    def violated(self, violation: ProtocolViolation) -> None:
        """Close the connection and end the session: the peer broke the protocol."""

    def door_full(self) -> None:
        """Stop writing: the transport's buffer is full."""

    def door_free(self) -> None:
        """Write on: the transport has room again."""
