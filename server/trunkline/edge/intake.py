"""Chooses what takes a socket's next message: before authentication, for the first message, and for later ones."""

from __future__ import annotations

from collections.abc import Callable

from trunkline.edge.fragments import MESSAGE_TOO_BIG, FrameRefused
from trunkline.edge.translation import Receiver
from trunkline.hub.connection import Connection
from trunkline.hub.principal import PENDING
from trunkline_protocol.codecs.dialect import Deferred
from trunkline_protocol.errors import RpcError


class Intake:
    """Takes the messages of one socket; every door hands them to :attr:`receive`.

    Args:
        pending_bytes: how large a message may be before the peer has authenticated.
        authenticated: called once, when the peer has authenticated by a call.
        route: what takes each message that waited for that call's answer; by default this object.

    Attributes:
        receive: takes one JSON-RPC message. Look it up for each: it changes.
    """

    def __init__(
        self,
        connection: Connection,
        pending_bytes: int,
        authenticated: Callable[[], None],
        route: Callable[[], Receiver] | None = None,
    ) -> None:
        self._connection = connection
        self._pending_bytes = pending_bytes
        self._authenticated = authenticated
        self._route = route
        self._held: list[bytes | Deferred] | None = None  # while the authenticate hook is asked
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
        if self._held is not None:
            self._held.append(deferred)
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
        if self._held is not None:
            self._held.append(message)
            return
        connection.receive(message)
        if connection.authenticating is not None:
            self._held = []
            connection.authenticating.add_done_callback(self._decided)
        else:
            self._look()

    def _look(self) -> None:
        if self._connection.principal is not PENDING:
            self.receive = self._receive_first
            self._authenticated()

    @property
    def holds(self) -> bool:
        """Whether messages wait until it is decided whether the peer is authenticated."""
        return self._held is not None

    def _decided(self, _task: object) -> None:
        """Hand on what has waited for the answer of the authenticate hook, in order."""
        held, self._held = self._held or [], None
        if self.receive == _ignore:
            return
        self._look()
        for message in held:
            receiver: Receiver = self if self._route is None else self._route()
            if isinstance(message, bytes):
                receiver.receive(message)
            else:
                receiver.take(message)

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
        self._route = None

    def disown(self) -> None:
        """Ignore further messages: the connection goes on over a newer socket."""
        self.receive = _ignore


def _nothing() -> None:
    """Replaces ``authenticated`` once the socket is gone."""


def _ignore(_message: bytes) -> None:
    """Replaces :attr:`Intake.receive` once messages of the socket are not wanted any more."""
