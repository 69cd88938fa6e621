"""Chooses what takes a socket's next message: before authentication, for the first message, and for later ones."""

from __future__ import annotations

from collections.abc import Callable

from trunkline.edge.fragments import MESSAGE_TOO_BIG, FrameRefused
from trunkline.hub.connection import Connection
from trunkline.hub.principal import PENDING
from trunkline_protocol.codecs.dialect import Deferred
from trunkline_protocol.errors import RpcError


class Intake:
    """Takes the messages of one socket; every door hands them to :attr:`receive`.

    Args:
        pending_bytes: how large a message may be before the peer has authenticated.
        authenticated: called once, when the peer has authenticated by a call.

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
        """Refuse a frame that is too large for a peer that has not authenticated, before the frame is unpacked.

        Raises:
            FrameRefused: with close code 1009.
        """
        if size > self._pending_bytes and self.receive == self._receive_pending:
            raise FrameRefused(MESSAGE_TOO_BIG, "authenticate before you send large messages")

    def take(self, deferred: Deferred) -> None:
        """Take a deferred request: it is translated only where the hub does not refuse its method outright."""
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
        """Take a message of a peer that has not authenticated: large ones are refused."""
        connection = self._connection
        self.require_room(len(message))
        connection.receive(message)
        if connection.principal is not PENDING:
            self.receive = self._receive_first
            self._authenticated()

    def _receive_first(self, message: bytes) -> None:
        """Take a message up to the first call: only that one may open a session."""
        connection = self._connection
        if connection.receive_first(message) and self.receive == self._receive_first:
            self.receive = connection.receive

    def adopt(self, connection: Connection) -> None:
        """Hand messages, which are numbered from now on, to the connection of a session."""
        self._connection = connection
        self.receive = connection.receive_numbered

    def end(self) -> None:
        """Break the reference cycles with the socket, which is gone: only a garbage collection would free them."""
        self.receive = _ignore
        self._authenticated = _nothing

    def disown(self) -> None:
        """Ignore further messages: the connection goes on over a newer socket."""
        self.receive = _ignore


def _nothing() -> None:
    """Replaces ``authenticated`` once the socket is gone."""


def _ignore(_message: bytes) -> None:
    """Replaces :attr:`Intake.receive` once messages of the socket are not wanted any more."""
