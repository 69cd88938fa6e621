"""A framed peer of this hub, at standard input and output or at a Unix socket; and what peers of one endpoint share."""

from __future__ import annotations

import asyncio
import logging
import select
from collections.abc import Callable
from typing import Final

from typing_extensions import override

from trunkline.edge.context import EdgeContext, Listener
from trunkline.edge.fragments import MESSAGE_TOO_BIG, TOO_MUCH_IN_PART, TRY_AGAIN_LATER
from trunkline.edge.framed.dialects import make_dialect
from trunkline.edge.framed.stream import FramedStream
from trunkline.edge.gate import Gate
from trunkline.edge.intake import Intake
from trunkline.edge.pacing import PacedReading
from trunkline.edge.translation import FrameSink, Receiver, TranslatingDoor
from trunkline.hub.byte_account import STEP, Holding
from trunkline.hub.client_connection import ClientConnection
from trunkline.hub.connection import Connection, Traffic
from trunkline.hub.outbox import Outbox
from trunkline.hub.principal import PENDING, Principal
from trunkline_protocol.codecs.dialect import Frame
from trunkline_protocol.codecs.plain import FramedDialect
from trunkline_protocol.framing import DialectName, Framing, FramingName, framing

CLOSE_SECONDS: Final = 2.0
"""How long a peer may take to read the last frames that it is sent."""

logger = logging.getLogger("trunkline.edge")


class FramedPeer(FramedStream, FrameSink, Listener):
    """One framed peer, from its first byte to its last: the socket's side of a connection of the hub."""

    def __init__(self, door: FramedDoor, principal: Principal, name: str) -> None:
        super().__init__(door.framing(), door.dialect(), name)
        context = door.context
        self._door = door
        self._principal = principal
        self._translation = TranslatingDoor(self, self._dialect)
        outbox = Outbox(context.flusher, self._translation, context.outbox_bytes, context.outbox_event_bytes)
        self._connection: Connection | None = ClientConnection(
            context.services, outbox, principal, name, self._translation
        )
        pending_bytes = context.services.limits.pending_bytes
        self._intake = Intake(self._connection, pending_bytes, self._authenticated, self._receiver)
        self._gate = Gate(self._intake, context.services.router.answers, self.hold_back)
        self._part: Holding | None = None  # account of an incomplete message, once it is large

    @override
    def begin(self, reading: PacedReading, output: asyncio.WriteTransport) -> None:
        super().begin(reading, output)
        assert self._connection is not None
        context = self._door.context
        context.enter(self, self.name)
        self._door.peers[self] = None
        if self._principal is PENDING:
            reading.allow(context.services.limits.pending_bytes, self._too_much_before_auth)
        context.services.opened(self._connection)
        logger.debug("connected", extra={"connection": self._connection.number, "peer": self.name})
        if self._door.causes is not None:
            self.open_gate(self._door.causes)

    def open_gate(self, causes: list[str]) -> None:
        """Greet the peer and hand on the calls that waited: the hub serves now, or ``causes`` say why it cannot."""
        self.send_frames(self._dialect.greet(causes))
        self._gate.open()
        self.go_on("starting")
        self.tell_input_ended()

    # --- see FramedStream ---

    @override
    def buffer_updated(self, nbytes: int) -> None:
        super().buffer_updated(nbytes)
        kept = self._framing.kept + self._dialect.kept
        if self._part is None and kept >= STEP and not self.is_over:
            self._part = self._door.context.partial.holding(self.principal.owner, self._evict_part)
        if self._part is not None and not self._part.update(kept):
            self._evict_part()

    def _evict_part(self) -> None:
        logger.info("closing a peer: too many bytes of incomplete messages", extra={"peer": self.name})
        self.close(TRY_AGAIN_LATER, TOO_MUCH_IN_PART)

    @override
    def take(self, frame: Frame) -> None:
        self._intake.require_room(len(frame.payload))
        self._translation.receive(frame, self._intake if self._intake.holds else self._receiver())

    def _receiver(self) -> Receiver:
        return self._gate if self._gate.is_shut_to(self.principal) else self._intake

    @override
    def has_more_to_take(self) -> bool:
        return self._gate.holds

    @override
    def input_ended(self) -> None:
        self._door.input_over(self)

    @override
    def pause_writing(self) -> None:
        if self._connection is not None:
            self._connection.writing_paused()

    @override
    def resume_writing(self) -> None:
        if self._connection is not None:
            self._connection.writing_resumed()
            self.finish_if_done()

    @override
    def flush(self) -> bool:
        if self._connection is not None:
            self._connection.outbox.flush()
        return not self.waiting_bytes

    @property
    @override
    def waiting_bytes(self) -> int:
        return 0 if self._connection is None else self._connection.outbox.waiting_bytes

    @property
    @override
    def close_seconds(self) -> float | None:
        return self._door.close_seconds

    @override
    def left(self) -> None:
        self._door.context.leave(self)
        self._door.peers.pop(self, None)
        connection, self._connection = self._connection, None
        if connection is not None:
            logger.debug("disconnected", extra={"connection": connection.number})
            connection.disconnected()
        self._door.left(self)

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        for part in (self._translation, self._intake, self._gate):
            part.end()
        if self._part is not None:
            self._part.release()
            self._part = None

    # --- the hub's side ---

    @property
    @override
    def principal(self) -> Principal:
        """Who is at the other end now."""
        return self._principal if self._connection is None else self._connection.principal

    @property
    def is_idle(self) -> bool:
        """Whether no call of this peer is in flight, and nothing waits to be written to it."""
        connection = self._connection
        return connection is None or not (
            connection.calls
            or connection.notifications
            or self._gate.holds
            or self._intake.holds
            or connection.outbox.waiting_bytes
        )

    def has_hung_up(self) -> bool:
        """Whether the peer has closed its socket, and not only shut down its sending side."""
        socket = None if self._output is None else self._output.get_extra_info("socket")
        if socket is None or socket.fileno() < 0:
            return self._output is None or self._output.is_closing()
        poll = select.poll()
        poll.register(socket.fileno(), 0)
        return any(event & (select.POLLHUP | select.POLLERR) for _fd, event in poll.poll(0))

    @override
    def traffic(self) -> Traffic:
        return Traffic("framed")

    @override
    def adopt(self, connection: Connection) -> None:
        self._connection = connection
        self._intake.adopt(connection)

    @override
    def disown(self) -> None:
        self._principal = self.principal
        self._connection = None
        self._intake.disown()

    @override
    def overflow(self) -> None:
        logger.warning("a peer reads too slowly; closing the connection", extra={"peer": self.name})
        self.break_off()

    @override
    def pause_reading(self) -> None:
        self.hold_back("unread answers")

    @override
    def resume_reading(self) -> None:
        self.go_on("unread answers")

    def _authenticated(self) -> None:
        self._principal = self.principal
        self._door.context.authenticated(self)
        assert self._reading is not None
        self._reading.allow(None)

    def _too_much_before_auth(self) -> None:
        self.close(MESSAGE_TOO_BIG, "authenticate before you send large messages")


class FramedDoor:
    """What the framed peers of one endpoint share.

    Args:
        context: limits, services and the list of all connections of the hub.
        framing: how a peer's bytes are cut into frames.
        dialect: what the frames contain.
        version: of this hub, for dialects that introduce themselves.
        input_over: called once with each peer that sends nothing more but still reads.
        left: called with each peer that has ended.
        close_seconds: how long a peer may take to read its last frames; None where the caller of ``close`` limits that.

    Attributes:
        peers: the connected ones.
        causes: why the hub cannot serve, in words, and empty where it can; None until that is known.
    """

    def __init__(
        self,
        context: EdgeContext,
        framing: FramingName,
        dialect: DialectName,
        version: str,
        *,
        input_over: Callable[[FramedPeer], None],
        left: Callable[[FramedPeer], None] = lambda _: None,
        close_seconds: float | None = CLOSE_SECONDS,
    ) -> None:
        self.context = context
        self.peers: dict[FramedPeer, None] = {}
        self.causes: list[str] | None = None
        self.input_over = input_over
        self.left = left
        self.close_seconds = close_seconds
        self._framing: FramingName = framing
        self._dialect: DialectName = dialect
        self._version = version

    def framing(self) -> Framing:
        """A new framing object, for one peer."""
        return framing(self._framing, self.context.max_message_bytes)

    def dialect(self) -> FramedDialect:
        """A new dialect object, for one peer."""
        return make_dialect(self._dialect, self.context.max_message_bytes, self._version)

    def open(self, causes: list[str]) -> None:
        """Open the gates of all peers, once: the hub serves now or, where there are causes, cannot."""
        if self.causes is None:
            self.causes = causes
            for peer in tuple(self.peers):
                peer.open_gate(causes)
