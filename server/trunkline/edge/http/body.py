"""The body of a request, bounded in bytes and time, whatever is in it."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from typing import Any, Final

from starlette.datastructures import Headers
from starlette.types import Receive

from trunkline.edge.context import EdgeContext
from trunkline.edge.fragments import FrameRefused, check_text
from trunkline.edge.http.answer import Refused
from trunkline.hub.byte_account import ByteAccount
from trunkline.hub.principal import Principal
from trunkline_protocol.errors import ErrorCode, RpcError, limit_error

BODY_GRACE: Final = 10.0
"""Seconds that any body may take, plus one more for each :data:`BODY_RATE` bytes that have arrived."""

BODY_RATE: Final = 16 * 1024
"""Bytes a second at which a large body has to arrive."""

PAYLOAD_TOO_LARGE: Final = 413
REQUEST_TIMEOUT: Final = 408


class PeerLeft(Exception):
    """Raised when the peer has disconnected before its response was complete."""


async def read_body(context: EdgeContext, principal: Principal, headers: Headers, receive: Receive) -> bytes:
    """The whole body, checked to be UTF-8.

    Args:
        context: has the limits of one message and of all incomplete messages.
        principal: the sender.

    Raises:
        Refused: 413 for a body that is too large, 503 where incomplete messages take too much memory already, 408 for
            one that is too slow, 400 for one that is no UTF-8.
        PeerLeft: the peer disconnected before the body was complete.
    """
    parts: list[bytes] = []
    await read_parts(context, principal, headers, receive, parts.append)
    body = parts[0] if len(parts) == 1 else b"".join(parts)
    try:
        check_text(body)
    except FrameRefused as refused:
        raise Refused(RpcError(ErrorCode.PARSE_ERROR, "not valid JSON: the body is not UTF-8")) from refused
    return body


async def read_parts(
    context: EdgeContext,
    principal: Principal,
    headers: Headers,
    receive: Receive,
    take: Callable[[bytes], object],
    piece: int = sys.maxsize,
) -> None:
    """Read the whole body, as :func:`read_body` does, whatever is in it.

    Args:
        take: given each part of it as it arrives, one at least; what it raises ends the reading.
        piece: bytes that it is given at once; of a larger part it gets one after the other, a turn of the loop between.

    Raises:
        Refused: 413, 503 or 408.
        PeerLeft: the peer disconnected before the body was complete.
    """
    limit = context.max_message_bytes
    announced = headers.get("content-length", "0")
    if not announced.isdecimal() or int(announced) > limit:
        raise _too_large(limit)
    message = await _next(receive, BODY_GRACE)
    body: bytes = message["body"]
    if len(body) > limit:
        raise _too_large(limit)
    await _hand_over(body, piece, take)
    if message["more_body"]:
        with _Part(context.partial, principal.owner) as part:
            await _read_on(len(body), receive, limit, part, take, piece)


async def _hand_over(body: bytes, piece: int, take: Callable[[bytes], object]) -> None:
    for start in range(0, len(body) or 1, piece):
        if start:
            await asyncio.sleep(0)
        take(body[start : start + piece])


class _Part:
    """An incomplete body, in the account of all incomplete messages: reading it ends where that account evicts it."""

    def __init__(self, account: ByteAccount, principal: str) -> None:
        self._holding = account.holding(principal, self._evict)
        self._waiting: asyncio.Timeout | None = None
        self._evicted = False

    def __enter__(self) -> _Part:
        return self

    def __exit__(self, *_error: object) -> None:
        self._holding.release()

    def grown(self, size: int) -> None:
        """Account for the bytes of the body that have arrived so far.

        Raises:
            Refused: 503, incomplete messages take too much memory.
        """
        if self._evicted or not self._holding.update(size):
            raise Refused(partial_error(), headers={"Connection": "close"})

    async def next(self, receive: Receive, seconds: float) -> dict[str, Any]:
        """The next ASGI message of the body.

        Raises:
            Refused: 408, it did not arrive within these seconds; 503, the body was evicted from the account.
            PeerLeft: the peer has disconnected.
        """
        try:
            async with asyncio.timeout(seconds) as self._waiting:
                message = await receive()
        except TimeoutError:
            if self._evicted:
                raise Refused(partial_error(), headers={"Connection": "close"}) from None
            raise _too_slow() from None
        finally:
            self._waiting = None
        if message["type"] != "http.request":
            raise PeerLeft
        return dict(message)

    def _evict(self) -> None:
        self._evicted = True
        if self._waiting is not None:
            self._waiting.reschedule(0)


async def _read_on(
    size: int, receive: Receive, limit: int, part: _Part, take: Callable[[bytes], object], piece: int
) -> None:
    loop = asyncio.get_running_loop()
    started, more = loop.time(), True
    while more:
        part.grown(size)
        message = await part.next(receive, started + BODY_GRACE + size / BODY_RATE - loop.time())
        size += len(message["body"])
        if size > limit:
            raise _too_large(limit)
        await _hand_over(message["body"], piece, take)
        more = message["more_body"]


async def _next(receive: Receive, seconds: float) -> dict[str, Any]:
    try:
        async with asyncio.timeout(seconds):
            message = await receive()
    except TimeoutError:
        raise _too_slow() from None
    if message["type"] != "http.request":
        raise PeerLeft
    return dict(message)


def partial_error() -> RpcError:
    """The error of a body that is evicted because incomplete messages take too much memory."""
    return limit_error(
        "partial_bytes_per_principal",
        "too many bytes of incomplete messages, of this principal or of all; send fewer large bodies at a time",
    )


def _too_slow() -> Refused:
    error = RpcError(ErrorCode.COMMUNICATION_TIMEOUT, "the request body did not arrive in time")
    return Refused(error, REQUEST_TIMEOUT, {"Connection": "close"})


def _too_large(limit: int) -> Refused:
    error = limit_error(
        "max_message_bytes",
        f"the body has more than {limit} bytes",
        code=ErrorCode.INVALID_REQUEST,
        retry_after_ms=None,
    )
    return Refused(error, PAYLOAD_TOO_LARGE, {"Connection": "close"})
