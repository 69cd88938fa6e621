"""One WebSocket from its opening to its end. All that is known here of the `websockets` library is known here alone."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import Any, Final

import websockets
from websockets.asyncio.client import ClientConnection
from websockets.protocol import State
from websockets.typing import Subprotocol

from trunkline.client.connection_state import CloseInfo, Refused
from trunkline_protocol import SUBPROTOCOL

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


class LinkEnded(ConnectionError):
    """The connection is gone."""

    def __init__(self, info: CloseInfo) -> None:
        super().__init__(str(info))
        self.info = info


class _Socket(ClientConnection):
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

    def __init__(self, socket: _Socket) -> None:
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
        create_connection=_Socket,
        proxy=None,
    )
    assert isinstance(socket, _Socket)
    return Link(socket)


def refusal_of(error: BaseException) -> Refused | None:
    """The hub's words, if it refused and will refuse again; None if another attempt may succeed."""
    if not isinstance(error, websockets.InvalidStatus) or error.response.status_code not in FINAL_STATUS:
        return None
    status = error.response.status_code
    try:
        answer: Any = json.loads(error.response.body or b"")
        words = str(answer["error"]["message"])
    except (ValueError, KeyError, TypeError):
        words = HTTPStatus(status).phrase
    return Refused(f"the hub refused the connection (HTTP {status}): {words}")
