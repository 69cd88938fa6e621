"""One connection from its opening (token, WebSocket, session) to its end.

All that is known here of the `websockets` library is known here alone.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final

import msgspec
import websockets
from websockets.asyncio.client import ClientConnection
from websockets.protocol import State
from websockets.typing import Subprotocol

from trunkline.client.connection_state import CloseInfo, HandshakeRefused
from trunkline_protocol import SUBPROTOCOL
from trunkline_protocol.errors import RpcError
from trunkline_protocol.session import SessionCore, SessionOpened

CLOSE_SECONDS: Final = 2.0
"""How long the hub may take to answer a close frame."""

WRITE_BYTES: Final = 64 * 1024
"""With more than this in the socket's buffer nothing new is written until it has emptied."""

ABNORMAL: Final = 1006
"""Close code of a connection that ended without one (RFC 6455)."""

KEEPALIVE_SECONDS: Final = 20.0
"""Between pings, and for each answer."""

CONNECT_ERRORS: Final = (OSError, websockets.WebSocketException)
"""Why a connection may not come up (time that is over is an OSError, too)."""

FINAL_STATUS: Final = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN})

OPEN_ID: Final = 0
"""Id of ``session.open``; calls count from 1."""

Token = str | Callable[[], str | Awaitable[str]]
"""A bearer token, or what gives one: it is asked before every attempt to connect, so that it may renew the token."""

logger = logging.getLogger("trunkline.client")


class LinkEnded(ConnectionError):
    """The connection is gone."""

    def __init__(self, info: CloseInfo) -> None:
        super().__init__(str(info))
        self.info = info


class _ClientSocket(ClientConnection):
    """A connection that is written to without waiting, many frames at once."""

    on_room: Callable[[], None] | None = None

    def write_texts(self, frames: Sequence[bytes]) -> None:
        """Write text messages; to be called only while it is open."""
        for frame in frames:
            self.protocol.send_text(frame)
        self.transport.write(b"".join(self.protocol.data_to_send()))

    async def drain(self) -> None:
        """Wait for nothing: whoever writes asks `paused`, and a ping must not wait where its answer is timed."""
        if self.transport.is_closing():
            await asyncio.sleep(0)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self.on_room is not None:
            self.on_room()


class Link:
    """An open connection; made by :func:`open_link`."""

    def __init__(self, socket: _ClientSocket) -> None:
        self._socket = socket

    def when_room(self, told: Callable[[], None]) -> None:
        """Call this whenever :attr:`is_full` ends."""
        self._socket.on_room = told

    @property
    def is_open(self) -> bool:
        """Whether what is written may still arrive."""
        return self._socket.state is State.OPEN and not self._socket.transport.is_closing()

    @property
    def is_full(self) -> bool:
        """Whether the peer does not take what was written."""
        return self._socket.paused

    def write(self, frames: Sequence[bytes]) -> None:
        """Write text messages (UTF-8), in order, without waiting. Nothing happens once the connection is not open."""
        if self.is_open:
            self._socket.write_texts(frames)

    async def receive(self) -> bytes:
        """The next message.

        Raises:
            LinkEnded: there is none.
        """
        try:
            return await self._socket.recv(decode=False)
        except websockets.ConnectionClosed as closed:
            raise LinkEnded(_info_of(closed)) from closed

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Close it; wait for the peer's answer, but not for long. Text is cut to what a close frame holds."""
        try:
            async with asyncio.timeout(2 * CLOSE_SECONDS):
                await self._socket.close(code, reason.encode()[:120].decode(errors="ignore"))
        except TimeoutError:
            self.abort()

    def abort(self) -> None:
        """End it at once, without a word."""
        self._socket.transport.abort()


def _info_of(closed: websockets.ConnectionClosed) -> CloseInfo:
    """The close frame that came; failing that, the one this side gave up with, or what went wrong."""
    if closed.rcvd is not None:
        return CloseInfo(closed.rcvd.code, closed.rcvd.reason)
    cause = closed.__cause__
    if closed.sent is not None:
        return CloseInfo(ABNORMAL, closed.sent.reason or str(cause or "the hub did not answer the close"))
    return CloseInfo(ABNORMAL, str(cause) if cause is not None and str(cause) else "no close frame came")


async def open_link(url: str, token: str | None, *, keepalive: float = KEEPALIVE_SECONDS) -> Link:
    """Connect. The caller limits the time.

    Args:
        token: sent as ``Authorization: Bearer``.
        keepalive: seconds between pings, and for each answer.

    Raises:
        OSError, websockets.InvalidHandshake: no connection could be made.
    """
    socket = await websockets.connect(
        url,
        additional_headers={"Authorization": f"Bearer {token}"} if token else None,
        subprotocols=[Subprotocol(SUBPROTOCOL)],
        compression=None,
        max_size=None,
        open_timeout=None,
        close_timeout=CLOSE_SECONDS,
        ping_interval=keepalive,
        ping_timeout=keepalive,
        write_limit=WRITE_BYTES,
        create_connection=_ClientSocket,
        proxy=None,
    )
    assert isinstance(socket, _ClientSocket)
    return Link(socket)


def refusal_of(error: BaseException) -> HandshakeRefused | None:
    """The hub's words, if it refused and will refuse again; None if another attempt may succeed."""
    if not isinstance(error, websockets.InvalidStatus) or error.response.status_code not in FINAL_STATUS:
        return None
    status = error.response.status_code
    try:
        answer: Any = json.loads(error.response.body or b"")
        words = str(answer["error"]["message"])
    except (ValueError, KeyError, TypeError):
        words = HTTPStatus(status).phrase
    return HandshakeRefused(f"the hub refused the connection (HTTP {status}): {words}")


@dataclass(slots=True)
class ClientSession:
    """A session that lives.

    Attributes:
        id: a secret, to resume it with.
        ttl: seconds it outlives its connection.
    """

    id: str = field(repr=False)
    ttl: float
    core: SessionCore = field(default_factory=SessionCore, repr=False)

    @classmethod
    def begin(cls, opened: SessionOpened) -> ClientSession:
        """The hub has opened it."""
        return cls(opened.session, opened.ttl_ms / 1000)


class Opened(msgspec.Struct):
    """A connection that came up.

    Attributes:
        session: what the hub said of the session; None if there is none.
        resuming: the session that was asked for.
    """

    link: Link
    session: SessionOpened | None
    resuming: ClientSession | None


@dataclass(frozen=True, slots=True)
class Connector:
    """Where the hub is, and how to get in.

    Attributes:
        timeout: seconds an attempt may take.
        with_session: whether to ask for a session.
        keepalive: seconds between pings, and for each answer.
    """

    url: str
    token: Token | None
    timeout: float
    with_session: bool
    keepalive: float

    async def open(self, resuming: ClientSession | None) -> Opened:
        """Connect, and go on with a session or begin one.

        Raises:
            OSError, websockets.InvalidHandshake, TimeoutError: no connection could be made.
            Exception: what the token's callable raised.
        """
        async with asyncio.timeout(self.timeout):
            link = await open_link(self.url, await self._token(), keepalive=self.keepalive)
            try:
                session = await _open_session(link, resuming) if self.with_session else None
            except BaseException:
                link.abort()
                raise
        return Opened(link, session, resuming)

    async def _token(self) -> str | None:
        if self.token is None or isinstance(self.token, str):
            return self.token
        token = self.token()
        return await token if inspect.isawaitable(token) else token


async def _open_session(link: Link, resuming: ClientSession | None) -> SessionOpened | None:
    params: dict[str, Any] = {}
    if resuming is not None:
        params["resume"] = {"session": resuming.id, "received": resuming.core.take_ack()}
    request = {"jsonrpc": "2.0", "id": OPEN_ID, "method": "session.open", "params": params}
    link.write([msgspec.json.encode(request)])
    # The first frame that comes is the answer: nothing else was asked for on this connection.
    answer = msgspec.json.decode(await link.receive())
    if not isinstance(answer, dict) or answer.get("id") != OPEN_ID or not {"result", "error"} & answer.keys():
        raise ConnectionError("the hub's first message does not answer session.open")
    if "error" in answer:
        error = RpcError.from_wire(answer["error"])
        logger.warning("connected without a session, a lost connection loses its calls: %s", error)
        return None
    try:
        return msgspec.convert(answer["result"], SessionOpened)
    except msgspec.ValidationError as error:
        raise ConnectionError(f"the hub's answer to session.open makes no sense: {error}") from error
