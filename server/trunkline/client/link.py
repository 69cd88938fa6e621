"""One connection, from its opening (token, WebSocket, session) to its end.

No other module of the client uses the internals of the `websockets` library.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from ssl import SSLContext
from typing import Any, Final, Protocol

import msgspec
import websockets
from typing_extensions import override
from websockets.asyncio.client import ClientConnection
from websockets.protocol import State
from websockets.typing import Subprotocol

from trunkline.client.connection_state import ABNORMAL, AuthenticationError, CloseInfo, ConnectError
from trunkline_protocol import SUBPROTOCOL
from trunkline_protocol.errors import ErrorCode, RpcError
from trunkline_protocol.session import SessionCore, SessionOpened

CLOSE_SECONDS: Final = 2.0
"""How long the hub may take to answer a close frame."""

WRITE_BYTES: Final = 64 * 1024
"""With more bytes than this in the socket's buffer nothing new is written until it is empty."""

KEEPALIVE_SECONDS: Final = 20.0
"""Seconds between pings, and within which each has to be answered."""

MAX_WORDS: Final = 200
"""Characters of an answer that is none of the hub's, in the error."""

OPEN_ID: Final = 0
"""Id of ``session.open``; calls count from 1."""

Token = str | Callable[[], str | Awaitable[str]]
"""A bearer token, or a function that returns one: it is called before every attempt, so that it may renew the token."""

logger = logging.getLogger("trunkline.client")


class NotNow(Exception):
    """The hub cannot say yet what became of the session: nothing was opened, and another attempt is to follow."""

    def __init__(self, error: RpcError) -> None:
        super().__init__(error.message)
        self.error = error


class LinkEnded(ConnectionError):
    """The connection has ended; ``info`` says how."""

    def __init__(self, info: CloseInfo) -> None:
        super().__init__(str(info))
        self.info = info


class _ClientSocket(ClientConnection):
    """A WebSocket connection that many frames can be written to at once, without waiting."""

    on_room: Callable[[], None] | None = None

    def write_texts(self, frames: Sequence[bytes]) -> None:
        """Write text messages; to be called only while the connection is open."""
        for frame in frames:
            self.protocol.send_text(frame)
        self.transport.write(b"".join(self.protocol.data_to_send()))

    async def drain(self) -> None:
        """Return at once: writers check `paused` themselves, and a ping must not wait, as its answer is timed."""
        if self.transport.is_closing():
            await asyncio.sleep(0)

    @override
    def resume_writing(self) -> None:
        super().resume_writing()
        if self.on_room is not None:
            self.on_room()


class Link:
    """One open connection; made by :func:`open_link`."""

    def __init__(self, socket: _ClientSocket) -> None:
        self._socket = socket

    def when_room(self, told: Callable[[], None]) -> None:
        """Call a function whenever :attr:`is_full` becomes False."""
        self._socket.on_room = told

    @property
    def is_open(self) -> bool:
        """Whether messages written now may still arrive."""
        return self._socket.state is State.OPEN and not self._socket.transport.is_closing()

    @property
    def is_full(self) -> bool:
        """Whether the socket's buffer is full, because the hub reads too slowly."""
        return self._socket.paused

    def write(self, frames: Sequence[bytes]) -> None:
        """Write text messages (UTF-8), in order, without waiting; drop them where the connection is not open."""
        if self.is_open:
            self._socket.write_texts(frames)

    async def receive(self) -> bytes:
        """The next message of the hub.

        Raises:
            LinkEnded: the connection has ended.
        """
        try:
            return await self._socket.recv(decode=False)
        except websockets.ConnectionClosed as closed:
            raise LinkEnded(_info_of(closed)) from closed

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Close the connection, and wait a few seconds for the answer. A reason too long for a close frame is cut."""
        try:
            async with asyncio.timeout(2 * CLOSE_SECONDS):
                await self._socket.close(code, reason.encode()[:120].decode(errors="ignore"))
        except TimeoutError:
            self.abort()

    def abort(self) -> None:
        """End the connection at once, without a close frame."""
        self._socket.transport.abort()


def _info_of(closed: websockets.ConnectionClosed) -> CloseInfo:
    """Code and reason of the close frame received; without one, why this side closed, or what went wrong."""
    if closed.rcvd is not None:
        return CloseInfo(closed.rcvd.code, closed.rcvd.reason)
    cause = closed.__cause__
    if closed.sent is not None:
        return CloseInfo(ABNORMAL, closed.sent.reason or str(cause or "the hub did not answer the close"))
    return CloseInfo(
        ABNORMAL, str(cause) if cause is not None and str(cause) else "the connection ended without a close frame"
    )


async def open_link(
    url: str, token: str | None, *, keepalive: float = KEEPALIVE_SECONDS, ssl: SSLContext | None = None
) -> Link:
    """Open a WebSocket connection. The caller limits the time.

    Args:
        token: sent as ``Authorization: Bearer``.
        keepalive: seconds between pings, and within which each has to be answered.
        ssl: of a ``wss`` URL; None for that of the library, which trusts the system's authorities.

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
        ssl=(ssl or True) if url.startswith("wss:") else None,
    )
    assert isinstance(socket, _ClientSocket)
    return Link(socket)


class OpenLink(Protocol):
    """Opens one connection, as :func:`open_link` does."""

    async def __call__(self, url: str, token: str | None, /, *, keepalive: float) -> Link:
        """Open a connection. The caller limits the time."""


def _refusal(url: str, answer: Any) -> ConnectError:
    """The error for an HTTP answer that refuses the connection, with the hub's own words where there are any."""
    status, body = answer.status_code, answer.body or b""
    try:
        error = RpcError.from_wire(json.loads(body)["error"])
    except (ValueError, KeyError, TypeError):
        words = body[:MAX_WORDS].decode(errors="replace").strip()
        return ConnectError(url, f"HTTP {status}: {words}".rstrip(": "), status=status)
    return ConnectError(url, f"HTTP {status}: {error.message}", status=status, error=error)


@dataclass(slots=True)
class ClientSession:
    """A session that is open, connected or not.

    Attributes:
        id: the secret that the session is resumed with.
        ttl: seconds that the session outlives its connection.
        core: numbers and acknowledges its frames.
        is_ending: whether the hub acts on no frame that it has not acknowledged, because it is stopping.
    """

    id: str = field(repr=False)
    ttl: float
    core: SessionCore = field(default_factory=SessionCore, repr=False)
    is_ending: bool = False

    @classmethod
    def begin(cls, opened: SessionOpened) -> ClientSession:
        """The session that a hub has opened."""
        return cls(opened.session, opened.ttl_ms / 1000)


class Opened(msgspec.Struct):
    """A connection that was opened.

    Attributes:
        link: the connection.
        session: the hub's answer about the session; None without one.
        resuming: the session that was to be resumed; None for a new one.
    """

    link: Link
    session: SessionOpened | None
    resuming: ClientSession | None


@dataclass(frozen=True, slots=True)
class Connector:
    """Opens connections to one hub.

    Attributes:
        timeout: seconds an attempt may take.
        with_session: whether to ask for a session.
        keepalive: seconds between pings, and within which each has to be answered.
        open_link: opens the connection itself; takes what :func:`open_link` takes.
    """

    url: str
    token: Token | None
    timeout: float
    with_session: bool
    keepalive: float
    open_link: OpenLink = field(default=open_link, kw_only=True)

    async def open(self, resuming: ClientSession | None) -> Opened:
        """Open a connection, and resume a session or open a new one.

        Raises:
            ConnectError: no connection could be made; its cause is the exception of the library, or of the token's
                function.
            AuthenticationError: the token's function says that there is none.
        """
        try:
            async with asyncio.timeout(self.timeout):
                return await self._open(resuming)
        except ConnectError:
            raise
        except websockets.InvalidStatus as error:
            raise _refusal(self.url, error.response) from error
        except TimeoutError as error:
            raise ConnectError(self.url, f"no answer within {self.timeout:g} s") from error
        except (OSError, websockets.WebSocketException) as error:
            raise ConnectError(self.url, str(error) or type(error).__name__) from error

    async def _open(self, resuming: ClientSession | None) -> Opened:
        link = await self.open_link(self.url, await self._token(), keepalive=self.keepalive)
        try:
            session = await _open_session(link, resuming) if self.with_session else None
        except NotNow as refusal:
            link.abort()
            raise ConnectError(self.url, refusal.error.message, error=refusal.error) from refusal
        except BaseException:
            link.abort()
            raise
        return Opened(link, session, resuming)

    async def _token(self) -> str | None:
        if self.token is None or isinstance(self.token, str):
            return self.token
        try:
            token = self.token()
            return await token if inspect.isawaitable(token) else token
        except AuthenticationError:
            raise
        except Exception as error:
            words = f"the token's function failed: {type(error).__name__}: {error}"
            raise ConnectError(self.url, words) from error


async def _open_session(link: Link, resuming: ClientSession | None) -> SessionOpened | None:
    params: dict[str, Any] = {}
    if resuming is not None:
        params["resume"] = {"session": resuming.id, "received": resuming.core.take_ack()}
    request = {"jsonrpc": "2.0", "id": OPEN_ID, "method": "session.open", "params": params}
    link.write([msgspec.json.encode(request)])
    # The first frame is the response: nothing else was requested on this connection.
    answer = msgspec.json.decode(await link.receive())
    if not isinstance(answer, dict) or answer.get("id") != OPEN_ID or not {"result", "error"} & answer.keys():
        raise ConnectionError("the hub's first message does not answer session.open")
    if "error" in answer:
        error = RpcError.from_wire(answer["error"])
        if error.code == ErrorCode.WORKER_UNAVAILABLE:
            raise NotNow(error)
        logger.warning("connected without a session, so that a lost connection loses its calls: %s", error)
        return None
    try:
        return msgspec.convert(answer["result"], SessionOpened)
    except msgspec.ValidationError as error:
        raise ConnectionError(f"the hub's response to session.open is malformed: {error}") from error
