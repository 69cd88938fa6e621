"""Which part of the hub takes the next message of a socket: before authentication, the first one, and later ones."""

from __future__ import annotations

from collections.abc import Callable

from trunkline.edge.fragments import MESSAGE_TOO_BIG, FrameRefused
from trunkline.hub.connection import Connection
from trunkline.hub.principal import PENDING


class Intake:
    """Every door that has a connection hands its messages to :attr:`receive`.

    Args:
        pending_bytes: how large a message may be before the peer has authenticated.
        authenticated: called once, when it has; at once where it had before.

    Attributes:
        receive: takes one JSON-RPC message. Look it up for each: it changes.
    """

    def __init__(self, connection: Connection, pending_bytes: int, authenticated: Callable[[], None]) -> None:
        self._connection = connection
        self._pending_bytes = pending_bytes
        self._authenticated = authenticated
        self.receive: Callable[[bytes], None] = (
            self._receive_pending if connection.principal is PENDING else self._receive_first
        )

    def _receive_pending(self, message: bytes) -> None:
        """Until the peer has authenticated, it gets little room."""
        connection = self._connection
        if len(message) > self._pending_bytes:
            raise FrameRefused(MESSAGE_TOO_BIG, "authenticate before you send large messages")
        connection.receive(message)
        if connection.principal is not PENDING:
            self.receive = self._receive_first
            self._authenticated()

    def _receive_first(self, message: bytes) -> None:
        """Until the first call: only that one may open a session."""
        connection = self._connection
        if connection.receive_first(message) and self.receive == self._receive_first:
            self.receive = connection.receive

    def adopt(self, connection: Connection) -> None:
        """From now on messages are numbered, and go to this connection."""
        self._connection = connection
        self.receive = connection.receive_numbered

    def disown(self) -> None:
        """The connection goes on over a newer socket: what this one still brings is for nobody."""
        self.receive = _ignore


def _ignore(_message: bytes) -> None:
    """The hub's side goes on elsewhere."""
