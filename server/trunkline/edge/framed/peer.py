"""A framed peer of this hub: at standard input and output, or at a Unix socket.

:class:`FramedDoor` has what the peers of one place share.
"""

from __future__ import annotations

import asyncio
import logging
import select
from collections.abc import Callable
from typing import Final

from typing_extensions import override

from trunkline.edge.context import EdgeContext
from trunkline.edge.fragments import MESSAGE_TOO_BIG, TOO_MUCH_IN_PART, TRY_AGAIN_LATER
from trunkline.edge.framed.dialects import DialectName, make_dialect
from trunkline.edge.framed.stream import FramedStream
from trunkline.edge.gate import Gate
from trunkline.edge.intake import Intake
from trunkline.edge.pacing import PacedReading
from trunkline.edge.translation import TranslatingDoor
from trunkline.hub.byte_account import STEP, Holding
from trunkline.hub.client_connection import ClientConnection
from trunkline.hub.connection import Connection, Traffic
from trunkline.hub.outbox import Outbox
from trunkline.hub.principal import PENDING, Principal
from trunkline_protocol.codecs.dialect import Frame
from trunkline_protocol.codecs.plain import FramedDialect
from trunkline_protocol.framing import Framing, FramingName, framing

CLOSE_SECONDS: Final = 2.0
"""How long a peer may take to fetch what it is told last."""

logger = logging.getLogger("trunkline.edge")


class FramedPeer(FramedStream):
    """One peer, from its first byte to its last; the socket's side of a connection of the hub."""

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
        self._intake = Intake(self._connection, context.services.limits.pending_bytes, self._authenticated)
        self._gate = Gate(self._intake, context.services.router.answers, self.hold_back)
        self._part: Holding | None = None  # of what has come in part, once that is much

    @override
    def begin(self, reading: PacedReading, output: asyncio.WriteTransport) -> None:
        super().begin(reading, output)
        assert self._connection is not None
        context = self._door.context
        context.listeners[self] = None
        self._door.peers[self] = None
        if self._principal is PENDING:
            context.pending += 1
            reading.allow(context.services.limits.pending_bytes, self._too_much_before_auth)
        context.services.opened(self._connection)
        logger.debug("connected", extra={"connection": self._connection.number, "peer": self.name})
        if self._door.causes is not None:
            self.open_gate(self._door.causes)

    def open_gate(self, causes: list[str]) -> None:
        """The hub serves, or ``causes`` say why it cannot."""
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
            self._part = self._door.context.partial.holding(self.principal.name, self._evict_part)
        if self._part is not None and not self._part.update(kept):
            self._evict_part()

    def _evict_part(self) -> None:
        logger.info("a peer's messages have come in part for too long", extra={"peer": self.name})
        self.close(TRY_AGAIN_LATER, TOO_MUCH_IN_PART)

    @override
    def take(self, frame: Frame) -> None:
        self._intake.require_room(len(frame.payload))
        self._translation.receive(frame, self._gate if self._gate.is_shut_to(self.principal) else self._intake)

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
        context = self._door.context
        context.listeners.pop(self, None)
        self._door.peers.pop(self, None)
        if self._principal is PENDING and self._output is not None:
            context.pending -= 1
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
    def principal(self) -> Principal:
        """Who is at the other end now."""
        return self._principal if self._connection is None else self._connection.principal

    @property
    def is_idle(self) -> bool:
        """Whether nothing it asked for is on its way, nor waits to be written."""
        connection = self._connection
        return connection is None or not (
            connection.calls or connection.notifications or self._gate.holds or connection.outbox.waiting_bytes
        )

    def has_hung_up(self) -> bool:
        """Whether the peer is gone, and has not only said its last."""
        socket = None if self._output is None else self._output.get_extra_info("socket")
        if socket is None or socket.fileno() < 0:
            return self._output is None or self._output.is_closing()
        poll = select.poll()
        poll.register(socket.fileno(), 0)
        return any(event & (select.POLLHUP | select.POLLERR) for _fd, event in poll.poll(0))

    def traffic(self) -> Traffic:
        """See :class:`trunkline.hub.connection.Door`."""
        return Traffic("framed")

    def adopt(self, connection: Connection) -> None:
        """See :class:`trunkline.hub.connection.Door`."""
        self._connection = connection
        self._intake.adopt(connection)

    def disown(self) -> None:
        """See :class:`trunkline.hub.connection.Door`."""
        self._principal = self.principal
        self._connection = None
        self._intake.disown()

    def overflow(self) -> None:
        """See :class:`trunkline.hub.outbox.Writer`."""
        logger.warning("a peer does not read; closing", extra={"peer": self.name})
        self.break_off()

    def pause_reading(self) -> None:
        """See :class:`trunkline.hub.outbox.Writer`."""
        self.hold_back("unread answers")

    def resume_reading(self) -> None:
        """See :class:`trunkline.hub.outbox.Writer`."""
        self.go_on("unread answers")

    def _authenticated(self) -> None:
        self._principal = self.principal
        self._door.context.pending -= 1
        assert self._reading is not None
        self._reading.allow(None)

    def _too_much_before_auth(self) -> None:
        self.close(MESSAGE_TOO_BIG, "authenticate before you send large messages")


class FramedDoor:
    """What the framed peers of one place share.

    Args:
        context: limits, services and the list of all connections of the hub.
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
        """A new one, for one peer."""
        return framing(self._framing, self.context.max_message_bytes)

    def dialect(self) -> FramedDialect:
        """A new one, for one peer."""
        return make_dialect(self._dialect, self.context.max_message_bytes, self._version)

    def open(self, causes: list[str]) -> None:
        """The hub serves now; or it does not, for these causes. Only the first time counts."""
        if self.causes is None:
            self.causes = causes
            for peer in tuple(self.peers):
                peer.open_gate(causes)
