"""Opening a connection to a hub."""

from __future__ import annotations

import random as _random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, Literal

from trunkline.client.engine import Engine
from trunkline.client.hub import Hub
from trunkline.client.link import KEEPALIVE_SECONDS, Door, Token
from trunkline.client.retrying import Random, Reconnect, Retry

MAX_QUEUED: Final = 1000
MAX_QUEUED_BYTES: Final = 8 * 2**20
DEFAULT_RETRY: Final = Retry()


@asynccontextmanager
async def connect(
    url: str,
    *,
    token: Token | None = None,
    open_timeout: float = 10.0,
    session: bool = True,
    reconnect: bool | Reconnect = True,
    retry: Retry | Literal[False] = DEFAULT_RETRY,
    max_queued: int = MAX_QUEUED,
    max_queued_bytes: int = MAX_QUEUED_BYTES,
    keepalive: float = KEEPALIVE_SECONDS,
    random: Random = _random.random,
) -> AsyncIterator[Hub]:
    """Connect to a hub for the length of a ``with`` block.

    When the connection is lost it is made again, and with a session nobody notices: calls and streams go on where
    they were. See :meth:`Hub.on_connection_state`.

    Args:
        url: ``ws://host:port/ws``.
        token: sent as ``Authorization: Bearer``; or a function, asynchronous or not, that is asked for it before
            every attempt.
        open_timeout: seconds an attempt may take.
        session: False: a lost connection takes its calls along. Of no meaning without ``reconnect``.
        reconnect: False: the first end of the connection is the last one. How long to wait otherwise.
        retry: how often calls that may be made again are, unless they say something else; False for never.
        max_queued: frames that may wait while there is no connection; what is beyond fails at once.
        max_queued_bytes: bytes that may.
        keepalive: seconds between pings, and for each answer; then the connection counts as lost.
        random: what waits are drawn from, uniform in [0, 1).

    Raises:
        OSError, websockets.InvalidHandshake, TimeoutError: no connection could be made.
    """
    policy = Reconnect() if reconnect is True else (reconnect or None)
    engine = Engine(
        Door(url, token, open_timeout, session and policy is not None, keepalive),
        reconnect=policy,
        retry=retry or None,
        random=random,
        max_queued=max_queued,
        max_queued_bytes=max_queued_bytes,
    )
    await engine.supervisor.start()
    try:
        yield Hub(engine)
    finally:
        await engine.close()
