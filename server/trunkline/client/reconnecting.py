"""Keeps a client connected: reconnects with back-off, and resumes or replaces the session."""

from __future__ import annotations

import asyncio
import logging
from typing import Final, Protocol

from trunkline.background import start_task
from trunkline.client.connection_state import (
    ABNORMAL,
    NOT_AUTHENTICATED,
    REFUSED,
    AuthenticationError,
    Closed,
    CloseInfo,
    Connected,
    ConnectError,
    Listeners,
    Reconnecting,
    State,
)
from trunkline.client.conversation import Conversation
from trunkline.client.link import ClientSession, Connector, Link, LinkEnded, Opened
from trunkline.client.outgoing import MESSAGE_TOO_BIG
from trunkline.client.retrying import Random, Reconnect, pause
from trunkline_protocol.session import PROTOCOL_ERROR, CannotResume, ProtocolViolation, ResumeRefusal

READ_AHEAD: Final = 64
"""Messages handled at a stretch before other tasks, such as their readers, get a turn."""

FINAL: Final = range(4500, 5000)
"""Close codes that mean "do not reconnect" (SPEC.md)."""

UNRESUMABLE: Final = frozenset({PROTOCOL_ERROR, 1003, 1007})
"""Close codes for faults in what was sent: a resumed session would send it again, and be refused again."""

OURS: Final = CloseInfo(1000, "closed by this client")
CLOSE_SESSION: Final = b'{"jsonrpc":"2.0","id":0,"method":"session.close","params":{}}'

logger = logging.getLogger("trunkline.client")


class Client(Protocol):
    """The rest of a client, told by a reconnector of messages and connections. No method blocks."""

    def take(self, data: bytes) -> bool:
        """Handle a message of the hub; returns whether readers fall behind."""

    def connected(self, resumed: bool) -> None:
        """Handle a new connection. ``resumed``: the session goes on; else the hub knows nothing of this client."""

    def too_large(self) -> None:
        """Handle a close because of a message above the hub's limit (1009); :meth:`cut` follows."""

    def cut(self) -> None:
        """Handle a lost connection; another one may follow."""

    def lost(self, reason: ResumeRefusal | None, words: str) -> None:
        """Handle the end of the session: the hub has forgotten what it was sent."""

    def ended(self, words: str, *, own: bool) -> None:
        """Handle the end for good: no connection follows. ``own``: because the user closed the client."""


class Reconnector:
    """Opens one connection after the other, reads each to its end, and tells the client.

    Args:
        connector: where to connect.
        reconnect: back-off between attempts; None to never reconnect.
        client: told of messages and connections.
        closed: completed with how the connection ended, when it has ended for good.
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
        """The state of the connection: ``connected``, ``reconnecting`` or ``closed``."""
        if self.closed.done():
            return "closed"
        return "reconnecting" if self._link is None else "connected"

    async def start(self, patience: float) -> None:
        """Connect for the first time.

        Args:
            patience: seconds to try again while there is no hub.

        Raises:
            ConnectError: no connection could be made.
            AuthenticationError: there is no token.
        """
        begun = self._loop.time()
        policy = self._reconnect or Reconnect()
        while True:
            try:
                opened = await self._connector.open(None)
                break
            except ConnectError as error:
                left = begun + patience - self._loop.time()
                if left <= 0 or self._is_final(error.close_code):
                    raise
                logger.info("%s; trying again", error)
                await asyncio.sleep(min(self._pause(begun, policy, error), left))
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
                if self._reconnect is None or self._is_final(cause.code) or self.closed.done():
                    return
                link = await self._reopen(self._reconnect, cause)
        except ConnectError as refused:
            cause = CloseInfo(refused.close_code, refused.reason)
        except AuthenticationError as refused:
            cause = CloseInfo(NOT_AUTHENTICATED, str(refused))
        except asyncio.CancelledError:
            link.abort()
            raise
        except Exception as error:
            cause = CloseInfo(ABNORMAL, f"the client failed: {type(error).__name__}: {error}")
            logger.exception("the client failed")
        finally:
            self._finish(cause)

    async def _read(self, link: Link) -> CloseInfo:
        """Handle messages until the connection ends; returns how it ended."""
        handled = 0
        try:
            while True:
                data = await link.receive()
                if self.closed.done():
                    continue  # the client is closed: messages are dropped until the connection ends
                handled += 1
                # One read of the socket may bring thousands of messages: let readers empty their queues in between.
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
        """Try, with back-off, until there is a connection; returns that.

        Raises:
            ConnectError: the hub refuses this client (HTTP 401 or 403), and there is no other token.
            AuthenticationError: the token's function says that there is none.
        """
        begun, attempt, failure = self._loop.time(), 1, None
        while True:
            delay = self._pause(begun, reconnect, failure)
            self.listeners.tell(Reconnecting(attempt, delay, cause))
            await asyncio.sleep(delay)
            try:
                opened = await self._connector.open(self._conversation.session)
                await self._attach_or_close(opened)
            except AuthenticationError:
                raise
            except ConnectError as error:
                if self._is_final(error.close_code):
                    raise
                failure = error
                cause = CloseInfo(error.close_code, error.reason)
                logger.info("%s", error)
            except Exception as error:
                cause = CloseInfo(ABNORMAL, f"{type(error).__name__}: {error}")
                logger.warning("could not connect to %s: %s", self._connector.url, cause.reason, exc_info=error)
            else:
                return opened.link
            attempt += 1

    def _pause(self, since: float, policy: Reconnect, error: ConnectError | None) -> float:
        """Seconds until the next attempt; not fewer than the hub asked for when it refused the last one."""
        asked = 0 if error is None or error.error is None else (error.error.retry_after_ms or 0)
        return max(pause(self._loop.time() - since, policy, self._random), asked / 1000)

    def _is_final(self, code: int) -> bool:
        """Whether the hub would say the same again: a token's function may return another one by then."""
        may_differ = callable(self._connector.token) and code in (NOT_AUTHENTICATED, REFUSED)
        return code in FINAL and not may_differ

    # --- what becomes of the session ---

    async def _attach_or_close(self, opened: Opened) -> None:
        try:
            self._attach(opened)
        except ConnectionError:
            opened.link.write([CLOSE_SESSION])
            await opened.link.close()
            raise

    def _attach(self, opened: Opened) -> None:
        """Use a new connection, with its session.

        Raises:
            ConnectionError: its session cannot be resumed; the next attempt opens a new one.
        """
        missing = self._resume(opened)
        self._stop_expiry()
        if missing is None and opened.session is not None:
            self._conversation.session = ClientSession.begin(opened.session)
        self._link = opened.link
        self._conversation.epoch = None if opened.session is None else opened.session.idempotency_epoch
        if opened.session is not None and opened.session.limits is not None:
            self._conversation.max_message_bytes = opened.session.limits.max_message_bytes
        self._conversation.attach(opened.link, missing or [])
        self._client.connected(missing is not None)
        self.listeners.tell(Connected(resumed=missing is not None))

    def _resume(self, opened: Opened) -> list[bytes] | None:
        """The frames of a resumed session that the hub has not received; None where the session was not resumed."""
        session, own = opened.session, self._conversation.session
        if session is None or not session.resumed:
            if own is not None:
                reason = "unknown" if session is None else session.reason
                self._lose(reason, f"the session could not be resumed ({reason})")
            return None
        if own is None or own is not opened.resuming:
            # The session expired here while the hub still kept it: its calls have failed already.
            raise ConnectionError("the session was given up")
        try:
            return own.core.resume(session.received)
        except CannotResume as cannot:
            self._lose(cannot.reason, f"the session could not be resumed: {cannot}")
            raise ConnectionError(str(cannot)) from cannot

    def _detach(self, cause: CloseInfo) -> None:
        """Handle a lost connection: keep the session until it expires, or end it."""
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
        """End for good; only the first call counts."""
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
