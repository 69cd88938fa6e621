"""One peer that polls: a connection of the hub that lasts from poll to poll, as a socket would."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable
from typing import Final

from typing_extensions import override

from trunkline.edge.context import EdgeContext, Listener
from trunkline.edge.fragments import MESSAGE_TOO_BIG, TRY_AGAIN_LATER, FrameRefused
from trunkline.edge.intake import Intake
from trunkline.edge.translation import FrameSink, TranslatingDoor
from trunkline.hub.client_connection import ClientConnection
from trunkline.hub.connection import Connection, Traffic
from trunkline.hub.outbox import Outbox
from trunkline.hub.principal import PENDING, Principal
from trunkline_protocol.codecs.dialect import DialectViolation, Frame
from trunkline_protocol.codecs.phoenix_polls import Mailbox, PollToken
from trunkline_protocol.codecs.phoenix_v2 import PhoenixDialect
from trunkline_protocol.errors import RpcError

PAUSE_BYTES: Final = 256 * 1024
"""With more bytes than this waiting to be fetched the hub writes nothing more; what comes then waits in the outbox."""

GOING_AWAY: Final = 1001

logger = logging.getLogger("trunkline.edge")


class Poll:
    """One request that waits for messages.

    Attributes:
        news: set once there is something to answer, or somebody to give up.
        is_over: a later poll took its place; it is answered with nothing.
    """

    __slots__ = ("is_over", "news")

    def __init__(self) -> None:
        self.news = asyncio.Event()
        self.is_over = False


class PollSession(FrameSink, Listener):
    """The socket's side of a connection of the hub whose peer comes again and again.

    Args:
        context: what all connections of the hub share.
        principal: whose it is from now on.
        credential: what the peer authenticated with, digested; None without.
        peer: its address.
        client: its User-Agent.
        dialect: its own.
        ended: called once with the session, when it is over.

    Attributes:
        secret: names the session in tokens.
        credential: as given.
        turns: of messages to the hub: one POST at a time.
        posts: those that have or await their turn.
        is_over: nothing more is taken or fetched.
        received: bytes of the bodies so far.
    """

    def __init__(
        self,
        context: EdgeContext,
        principal: Principal,
        credential: bytes | None,
        peer: str,
        client: str | None,
        dialect: PhoenixDialect,
        ended: Callable[[PollSession], None],
    ) -> None:
        self.secret = secrets.token_urlsafe(16)
        self.credential = credential
        self.turns = asyncio.Lock()
        self.posts = 0
        self.is_over = False
        self.received = 0
        self._context = context
        self._principal = principal
        self._peer = peer
        self._client = client
        self._ended = ended
        self._mailbox = Mailbox()
        self._sent = 0
        self._poll: Poll | None = None
        self._full = False
        self._reading = True
        self._room = asyncio.Event()
        self._room.set()
        self._silence: asyncio.TimerHandle | None = None
        self._dialect = dialect
        self._translation = TranslatingDoor(self, dialect)
        outbox = Outbox(context.flusher, self._translation, context.outbox_bytes, context.outbox_event_bytes)
        self._connection: Connection | None = ClientConnection(
            context.services, outbox, principal, peer, self._translation
        )
        self._intake = Intake(self._connection, context.services.limits.pending_bytes, self._authenticated)

    def begin(self, inherited: dict[str, str]) -> None:
        """Count it as a connection, until it is over.

        Args:
            inherited: metadata of calls without their own.
        """
        assert self._connection is not None
        self._connection.inherited = inherited
        self._context.enter(self, self._peer)
        self._context.services.opened(self._connection)
        self._wait_for_poll()
        logger.debug("connected", extra={"connection": self._connection.number, "peer": self._peer})

    # --- polls ---

    @property
    def token(self) -> PollToken:
        """What the next poll has to show."""
        return PollToken(self.secret, self._mailbox.turn)

    def knows(self, turn: int) -> bool:
        """Whether a poll with this number can be answered."""
        return self._mailbox.knows(turn)

    async def fetch(self, turn: int, poll: Poll, seconds: float) -> list[bytes]:
        """The messages for a poll; waits for the first one. Empty where none came in time, or the session is over.

        Args:
            turn: what the poll shows; :meth:`knows` it.
            seconds: how long it may wait.
        """
        self._take_place(poll)
        try:
            messages = self._taken(turn)
            if not messages and not self.is_over:
                try:
                    async with asyncio.timeout(seconds):
                        await poll.news.wait()
                except TimeoutError:
                    pass
                messages = [] if poll.is_over else self._taken(turn)
            return messages
        finally:
            if self._poll is poll:
                self._poll = None
                self._wait_for_poll()

    def _take_place(self, poll: Poll) -> None:
        """The newest poll is the peer's: an earlier one waits for nobody."""
        if self._poll is not None:
            self._poll.is_over = True
            self._poll.news.set()
        self._poll = poll
        if self._silence is not None:
            self._silence.cancel()
            self._silence = None

    def _taken(self, turn: int) -> list[bytes]:
        if turn == self._mailbox.turn:  # else the last answer was lost, and is repeated
            self._dialect.confirm()
        messages = self._mailbox.fetch(turn)
        if not self._mailbox.waiting_bytes:
            self._dialect.mark()
        self._sent += sum(map(len, messages))
        if self._full and self._mailbox.waiting_bytes <= PAUSE_BYTES and self._connection is not None:
            self._full = False
            self._connection.writing_resumed()
        self._look_for_room()
        return messages

    def _wait_for_poll(self) -> None:
        """End the session where no poll comes for as long as a WebSocket may be silent."""
        if not self.is_over:
            silence = self._context.ping_interval + self._context.ping_timeout
            self._silence = asyncio.get_running_loop().call_later(silence, self._not_polled)

    def _not_polled(self) -> None:
        logger.info("a peer does not poll; ending its connection", extra={"peer": self._peer})
        self.close(GOING_AWAY, "no poll came in time")

    # --- messages of the peer ---

    async def wait_for_room(self) -> None:
        """Wait until the peer may be read: answers that it has not fetched stand before more messages of its."""
        await self._room.wait()

    def take(self, frame: Frame | RpcError) -> None:
        """Hand a message of the peer to the hub, or answer what is none. One that cannot be taken ends the session."""
        if self.is_over:
            return
        if isinstance(frame, RpcError):
            self.send_frames(self._dialect.refuse(frame))
            return
        self.received += len(frame.payload)
        try:
            self._require_room_before_auth(frame)
            self._translation.receive(frame, self._intake)
        except FrameRefused as refused:
            self.refuse(refused.code, refused.reason)
        except DialectViolation as violation:
            self.send_frames(list(violation.last))
            self.refuse(violation.code, violation.reason)

    def _require_room_before_auth(self, frame: Frame) -> None:
        self._intake.require_room(len(frame.payload))
        if self.principal is PENDING and self.received > self._context.services.limits.pending_bytes:
            raise FrameRefused(MESSAGE_TOO_BIG, "authenticate before you send large messages")

    def refuse(self, code: int, reason: str) -> None:
        """End the session for what the peer sent."""
        logger.info("frame refused", extra={"peer": self._peer, "close_code": code, "reason": reason})
        self.close(code, reason)

    def _look_for_room(self) -> None:
        """Read the peer where neither the hub nor what it has not fetched stands against it."""
        if self.is_over or (self._reading and self._mailbox.waiting_bytes <= PAUSE_BYTES):
            self._room.set()
        else:
            self._room.clear()

    # --- the hub's side ---

    @property
    @override
    def principal(self) -> Principal:
        """Who polls."""
        return self._principal if self._connection is None else self._connection.principal

    @override
    def send_frames(self, frames: list[Frame]) -> None:
        for frame in frames:
            self._mailbox.add(frame.payload)
        if self._mailbox.waiting_bytes > PAUSE_BYTES:
            if not self._full and self._connection is not None:
                self._full = True
                self._connection.writing_paused()
            self._look_for_room()
        if self._poll is not None:
            self._poll.news.set()

    @override
    def close(self, code: int, reason: str) -> None:
        """End the session: the poll that waits gets what there is, and the next one that it is gone."""
        if self.is_over:
            return
        if self._connection is not None:
            self._connection.outbox.flush()
        self.is_over = True
        if self._silence is not None:
            self._silence.cancel()
        if self._poll is not None:
            self._poll.news.set()
        self._room.set()
        self._ended(self)
        # Not at once: this may be called from the middle of the connection's own work.
        asyncio.get_running_loop().call_soon(self._leave)

    def _leave(self) -> None:
        self._context.leave(self)
        self._principal = self.principal
        connection, self._connection = self._connection, None
        if connection is not None:
            logger.debug("disconnected", extra={"connection": connection.number})
            connection.disconnected()
        self._translation.end()
        self._intake.end()

    @override
    def traffic(self) -> Traffic:
        return Traffic("longpoll", self._client, self.received, self._sent)

    @override
    def overflow(self) -> None:
        logger.warning("a peer reads too slowly; closing the connection", extra={"peer": self._peer})
        self.close(TRY_AGAIN_LATER, "too many bytes wait for this connection; poll faster")

    @override
    def pause_reading(self) -> None:
        self._reading = False
        self._look_for_room()

    @override
    def resume_reading(self) -> None:
        self._reading = True
        self._look_for_room()

    def _authenticated(self) -> None:
        self._principal = self.principal
        self._context.authenticated(self)

    @override
    def adopt(self, connection: Connection) -> None:
        """Do nothing: channels open no sessions of section 5."""

    @override
    def disown(self) -> None:
        """Do nothing: channels open no sessions of section 5."""
