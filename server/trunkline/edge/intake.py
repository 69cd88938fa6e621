"""Which part of the hub takes the next message of a socket: before authentication, the first one, and later ones."""

from __future__ import annotations

from collections.abc import Callable

from trunkline.edge.fragments import MESSAGE_TOO_BIG, FrameRefused
from trunkline.hub.connection import Connection
from trunkline.hub.principal import PENDING
from trunkline_protocol.codecs.dialect import Deferred
from trunkline_protocol.errors import RpcError


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

    def require_room(self, size: int) -> None:
        """Refuse a frame that is too large for who has not authenticated, before it is unpacked.

        Raises:
            FrameRefused: with close code 1009.
        """
        if size > self._pending_bytes and self.receive == self._receive_pending:
            raise FrameRefused(MESSAGE_TOO_BIG, "authenticate before you send large messages")

    def take(self, deferred: Deferred) -> None:
        """Take a request that is translated only if the hub does not refuse it whatever its params are."""
        if self.receive == _ignore:
            return
        connection = self._connection
        error = connection.refusal_of(deferred.method)
        if error is None:
            try:
                message = deferred.translate()
            except RpcError as untranslated:
                error = untranslated
            else:
                self.receive(message)
                return
        if self.receive == self._receive_first:
            self.receive = connection.receive
        connection.refuse(deferred.envelope, error)

    def _receive_pending(self, message: bytes) -> None:
        """Until the peer has authenticated, it gets little room."""
        connection = self._connection
        self.require_room(len(message))
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

    def end(self) -> None:
        """The socket is gone. What this has, has this, too (:attr:`receive` as well): only a collection frees such."""
        self.receive = _ignore
        self._authenticated = _nothing

    def disown(self) -> None:
        """The connection goes on over a newer socket: what this one still brings is for nobody."""
        self.receive = _ignore


def _nothing() -> None:
    """Nobody is there to be told."""


def _ignore(_message: bytes) -> None:
    """The hub's side goes on elsewhere."""
