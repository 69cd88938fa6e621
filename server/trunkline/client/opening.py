"""One attempt to connect: token, WebSocket, session."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from trunkline.client.conversation import Session
from trunkline.client.link import Link, open_link
from trunkline_protocol.errors import RpcError
from trunkline_protocol.session import SessionOpened

OPEN_ID: Final = 0
"""Id of ``session.open``; calls count from 1."""

Token = str | Callable[[], str | Awaitable[str]]
"""A bearer token, or what gives one: it is asked before every attempt to connect, so that it may renew the token."""

logger = logging.getLogger("trunkline.client")


class Opened(msgspec.Struct):
    """A connection that came up.

    Attributes:
        session: what the hub said of the session; None if there is none.
        resuming: the session that was asked for.
    """

    link: Link
    session: SessionOpened | None
    resuming: Session | None


@dataclass(frozen=True, slots=True)
class Door:
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

    async def open(self, resuming: Session | None) -> Opened:
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


async def _open_session(link: Link, resuming: Session | None) -> SessionOpened | None:
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
