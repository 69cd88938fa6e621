"""Keeps a client connected: one connection after the other, and what becomes of the session in between."""

from __future__ import annotations

import asyncio
import itertools
import logging
from typing import Final, Protocol

from trunkline.background import start_task
from trunkline.client.connection_state import (
    Closed,
    CloseInfo,
    Connected,
    HandshakeRefused,
    Listeners,
    Reconnecting,
    State,
)
from trunkline.client.conversation import Conversation
from trunkline.client.link import (
    ABNORMAL,
    CONNECT_ERRORS,
    ClientSession,
    Connector,
    Link,
    LinkEnded,
    Opened,
    refusal_of,
)
from trunkline.client.outgoing import MESSAGE_TOO_BIG
from trunkline.client.retrying import Random, Reconnect, full_jitter
from trunkline_protocol.session import PROTOCOL_ERROR, CannotResume, ProtocolViolation, ResumeRefusal

READ_AHEAD: Final = 64
"""Messages that are handled at a stretch before those who wait for them get a turn."""

FINAL: Final = range(4500, 5000)
"""Close codes that mean "do not come back" (SPEC.md)."""

UNRESUMABLE: Final = frozenset({PROTOCOL_ERROR, 1003, 1007})
"""Close codes that say something is wrong with what was sent: sent again it would be refused again."""

NOT_LET_IN: Final = 1008
OURS: Final = CloseInfo(1000, "closed by this client")
CLOSE_SESSION: Final = b'{"jsonrpc":"2.0","id":0,"method":"session.close","params":{}}'

logger = logging.getLogger("trunkline.client")


class Client(Protocol):
    """What a reconnector tells the rest of the client. None of it waits."""

    def take(self, data: bytes) -> bool:
        """A message has come. Returns whether readers fall behind."""

    def connected(self, resumed: bool) -> None:
        """There is a connection. ``resumed``: the hub knows what it was told before."""

    def too_large(self) -> None:
        """The hub closed the connection because of a message that is too large for it."""

    def cut(self) -> None:
        """The connection is gone; there may be another one."""

    def lost(self, reason: ResumeRefusal | None, words: str) -> None:
        """The hub knows nothing any more of what it was sent."""

    def ended(self, words: str, *, own: bool) -> None:
        """There will be no connection any more. ``own``: because the user closed it."""


class Reconnector:
    """See the file.

    Args:
        connector: where to connect.
        reconnect: None if the first end is the last one.
        client: who is told.
        closed: gets how it ended, when it has ended for good.
    """

    def __init__(
        self,
        connector: Connector,
        conversation: Conversation,
        reconnect: Reconnect | None,
        client: Client,
        random: Random,
        closed: asyncio.Future[CloseInfo],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._connector = connector
        self._conversation = conversation
        self._reconnect = reconnect
        self._client = client
        self._random = random
        self._link: Link | None = None
        self._expiry: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self.listeners = Listeners()
        self.closed = closed

    @property
    def state(self) -> State:
        """A word for where the connection is."""
        if self.closed.done():
            return "closed"
        return "reconnecting" if self._link is None else "connected"

    async def start(self) -> None:
        """Connect for the first time.

        Raises:
            OSError, websockets.InvalidHandshake, TimeoutError: no connection could be made.
        """
        opened = await self._connector.open(None)
        self._attach(opened)
        self._task = start_task(self._run(opened.link), "trunkline-client")

    async def close(self) -> None:
        """End the session and the connection, whatever state they are in."""
        task = self._task
        if task is None:
            return
        link = self._link
        if link is not None and not self.closed.done():
            self._conversation.flush()
            if self._conversation.session is not None:
                link.write([CLOSE_SESSION])
        self._finish(OURS)
        if link is not None:
            await link.close()
        else:
            task.cancel()
        await asyncio.wait([task])

    # --- one connection after the other ---

    async def _run(self, link: Link) -> None:
        cause = OURS
        try:
            while True:
                cause = await self._read(link)
                self._detach(cause)
                if self._reconnect is None or cause.code in FINAL or self.closed.done():
                    return
                link = await self._reopen(self._reconnect, cause)
        except HandshakeRefused as refused:
            cause = CloseInfo(NOT_LET_IN, str(refused))
        except asyncio.CancelledError:
            link.abort()
            raise
        except Exception as error:
            cause = CloseInfo(ABNORMAL, f"the client failed: {type(error).__name__}: {error}")
            logger.exception("the client failed")
        finally:
            self._finish(cause)

    async def _read(self, link: Link) -> CloseInfo:
        """Handle what comes until the connection ends."""
        handled = 0
        try:
            while True:
                data = await link.receive()
                if self.closed.done():
                    continue  # only the end is waited for
                handled += 1
                # One read of the socket may hold thousands of messages: let readers empty their queues in between.
                if self._client.take(data) or not handled % READ_AHEAD:
                    await asyncio.sleep(0)
        except LinkEnded as ended:
            return ended.info
        except ProtocolViolation as violation:
            cause = CloseInfo(PROTOCOL_ERROR, str(violation))
            logger.warning("the hub broke a rule of sessions: %s", violation)
        except Exception as error:
            cause = CloseInfo(PROTOCOL_ERROR, f"reading failed: {type(error).__name__}: {error}")
            logger.exception("reading from the hub failed")
        self._conversation.detach()
        if self._conversation.session is not None:
            link.write([CLOSE_SESSION])
        await link.close(cause.code, cause.reason)
        return cause

    async def _reopen(self, reconnect: Reconnect, cause: CloseInfo) -> Link:
        """Try until there is a connection.

        Raises:
            HandshakeRefused: the hub will not let this client in.
        """
        for attempt in itertools.count():
            delay = full_jitter(attempt, reconnect.min_delay, self._random, cap=reconnect.max_delay)
            self.listeners.tell(Reconnecting(attempt + 1, delay, cause))
            await asyncio.sleep(delay)
            try:
                opened = await self._connector.open(self._conversation.session)
                await self._attach_or_close(opened)
            except Exception as error:
                refused = refusal_of(error)
                if refused is not None:
                    raise refused from error
                cause = CloseInfo(ABNORMAL, f"{type(error).__name__}: {error}" if str(error) else type(error).__name__)
                unexpected = None if isinstance(error, CONNECT_ERRORS) else error
                level = logging.INFO if unexpected is None else logging.WARNING
                logger.log(level, "could not connect to %s: %s", self._connector.url, cause.reason, exc_info=unexpected)
            else:
                return opened.link
        raise AssertionError  # it counts for ever

    # --- what becomes of the session ---

    async def _attach_or_close(self, opened: Opened) -> None:
        try:
            self._attach(opened)
        except ConnectionError:
            opened.link.write([CLOSE_SESSION])
            await opened.link.close()
            raise

    def _attach(self, opened: Opened) -> None:
        """There is a connection.

        Raises:
            ConnectionError: its session cannot be gone on with; the next attempt begins a new one.
        """
        missing = self._resume(opened)
        self._stop_expiry()
        if missing is None and opened.session is not None:
            self._conversation.session = ClientSession.begin(opened.session)
        self._link = opened.link
        if opened.session is not None and opened.session.limits is not None:
            self._conversation.max_message_bytes = opened.session.limits.max_message_bytes
        self._conversation.attach(opened.link, missing or [])
        self._client.connected(missing is not None)
        self.listeners.tell(Connected(resumed=missing is not None))

    def _resume(self, opened: Opened) -> list[bytes] | None:
        """What the hub lacks of the session there was; None if it does not go on."""
        session, own = opened.session, self._conversation.session
        if session is None or not session.resumed:
            if own is not None:
                reason = "unknown" if session is None else session.reason
                self._lose(reason, f"the session could not be resumed ({reason})")
            return None
        if own is None or own is not opened.resuming:
            # Its time was over here while the hub still knew it: its calls were given up.
            raise ConnectionError("the session was given up")
        try:
            return own.core.resume(session.received)
        except CannotResume as cannot:
            self._lose(cannot.reason, f"the session could not be resumed: {cannot}")
            raise ConnectionError(str(cannot)) from cannot

    def _detach(self, cause: CloseInfo) -> None:
        """The connection is gone."""
        self._link = None
        self._conversation.detach()
        if cause.code == MESSAGE_TOO_BIG:
            self._client.too_large()
        self._client.cut()
        session = self._conversation.session
        if session is None or cause.code in UNRESUMABLE:
            self._lose(None, f"the connection was lost: {cause}")
        else:
            self._expiry = self._loop.call_later(session.ttl, self._expire, cause)

    def _expire(self, cause: CloseInfo) -> None:
        self._expiry = None
        self._lose(None, f"the connection was lost, and the session's time is over: {cause}")

    def _lose(self, reason: ResumeRefusal | None, words: str) -> None:
        self._stop_expiry()
        self._client.lost(reason, words)
        self._conversation.forget()

    def _stop_expiry(self) -> None:
        if self._expiry is not None:
            self._expiry.cancel()
            self._expiry = None

    def _finish(self, info: CloseInfo) -> None:
        """It is over for good; only the first time counts."""
        if self.closed.done():
            return
        self._link = None
        self._conversation.detach()
        self._stop_expiry()
        self.closed.set_result(info)
        own = info is OURS
        self._client.ended("the connection was closed" if own else f"the connection was lost: {info}", own=own)
        self._conversation.drop_all()
        self.listeners.tell(Closed(info.code, info.reason))
