"""A request that wants something run: who sends it, what it may look like, and its body, bounded in bytes and time."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Final

import msgspec
from starlette.datastructures import Headers, QueryParams
from starlette.types import Receive, Scope

from trunkline.edge.access.rules import find_token
from trunkline.edge.context import EdgeContext
from trunkline.edge.fragments import FrameRefused, check_text
from trunkline.edge.http.answer import JSON, Refused
from trunkline.edge.http.wire import WIRE, Wire
from trunkline.hub.byte_account import ByteAccount
from trunkline.hub.principal import Handshake, Principal
from trunkline_protocol.errors import ErrorCode, RpcError, limit_error

BODY_GRACE: Final = 10.0
"""Seconds a body may take, however small ..."""

BODY_RATE: Final = 16 * 1024
"""... and the bytes a second it has to bring beyond them."""

EVENT_STREAM: Final = "text/event-stream"

JSON_TYPES: Final = frozenset({JSON, "application/json-rpc", "application/jsonrequest"})
"""None of them can be sent by a page of a foreign origin without asking first (the CORS preflight)."""

PAYLOAD_TOO_LARGE: Final = 413
UNSUPPORTED_TYPE: Final = 415
METHOD_NOT_ALLOWED: Final = 405
REQUEST_TIMEOUT: Final = 408

logger = logging.getLogger("trunkline.edge")
_raw_decoder: Final = msgspec.json.Decoder(msgspec.Raw)


class PeerLeft(Exception):
    """There is nobody to answer any more."""


def peer_of(scope: Scope) -> str:
    """The remote address as ``host:port``."""
    client = scope.get("client")
    return f"{client[0]}:{client[1]}" if client else "unix"


def wire_of(scope: Scope) -> Wire:
    """The TCP connection a request came over."""
    wire: Wire = scope[WIRE]
    return wire


def admit(context: EdgeContext, scope: Scope, headers: Headers) -> Principal:
    """Let a request in, by the rules of every door.

    Raises:
        Refused: host, origin or credentials are not right, or too many are in.
    """
    peer = peer_of(scope)
    try:
        context.check_room()
        params = dict(QueryParams(scope["query_string"])) if scope["query_string"] else {}
        return context.access.admit(Handshake(scope["path"], peer, headers, find_token(headers), params))
    except RpcError as error:
        logger.warning("request refused", extra={"peer": peer, "reason": error.message})
        context.refused(peer, error)
        raise Refused(error) from error


def require_post(scope: Scope) -> None:
    """Refuse any other method (405)."""
    if scope["method"] != "POST":
        error = RpcError(ErrorCode.INVALID_REQUEST, f"{scope['method']} does nothing here; send a POST")
        raise Refused(error, METHOD_NOT_ALLOWED, {"Allow": "POST"})


def require_json(headers: Headers) -> None:
    """Refuse a body that is not JSON in UTF-8, as it stands (415).

    A page of a foreign origin can send other types, or none, without asking: they must not run anything.
    """
    kind, charset = _media_type(headers.get("content-type", ""))
    if kind not in JSON_TYPES or charset not in ("", "utf-8", "utf8", "us-ascii"):
        given = headers.get("content-type", "no Content-Type")
        error = RpcError(ErrorCode.INVALID_REQUEST, f"send Content-Type: {JSON} (UTF-8), not {given!r:.100}")
        raise Refused(error, UNSUPPORTED_TYPE, {"Accept-Post": JSON})
    encoding = headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("", "identity"):
        error = RpcError(ErrorCode.INVALID_REQUEST, f"send the body as it is: Content-Encoding {encoding!r:.50} is not")
        raise Refused(error, UNSUPPORTED_TYPE, {"Accept-Encoding": "identity"})


def _media_type(value: str) -> tuple[str, str]:
    kind, *parameters = (part.strip().lower() for part in value.split(";"))
    charset = ""
    for parameter in parameters:
        name, _, given = parameter.partition("=")
        if name.strip() == "charset":
            charset = given.strip().strip('"')
    return kind, charset


def wants_events(headers: Headers) -> bool:
    """Whether the answer may be server-sent events. Only who names them gets them: ``*/*`` is everybody's default."""
    for part in ",".join(headers.getlist("accept")).split(","):
        kind, _, parameters = part.strip().lower().partition(";")
        if kind.strip() == EVENT_STREAM:
            return parameters.replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    return False


async def read_body(context: EdgeContext, principal: Principal, headers: Headers, receive: Receive) -> bytes:
    """The whole body, as UTF-8 text.

    Args:
        context: how large it may be, and how much all that has come in part.
        principal: who sends it.

    Raises:
        Refused: 413 before more is kept than may be, 503 where too much has come in part already, 408 where it takes
            too long, 400 where it is no UTF-8.
        PeerLeft: it will not come.
    """
    limit = context.max_message_bytes
    announced = headers.get("content-length", "0")
    if not announced.isdecimal() or int(announced) > limit:
        raise _too_large(limit)
    message = await _next(receive, BODY_GRACE)
    body: bytes = message["body"]
    if message["more_body"] or len(body) > limit:
        with _Part(context.partial, principal.name) as part:
            body = await _read_on(body, receive, limit, part)
    try:
        check_text(body)
    except FrameRefused as refused:
        raise Refused(RpcError(ErrorCode.PARSE_ERROR, "not valid JSON: the body is no UTF-8")) from refused
    return body


class _Part:
    """A body that has come in part, in the account of all such. Reading it ends where it has to go for others."""

    def __init__(self, account: ByteAccount, principal: str) -> None:
        self._holding = account.holding(principal, self._evict)
        self._waiting: asyncio.Timeout | None = None
        self._evicted = False

    def __enter__(self) -> _Part:
        return self

    def __exit__(self, *_error: object) -> None:
        self._holding.release()

    def grown(self, size: int) -> None:
        """So much of it has come."""
        if self._evicted or not self._holding.update(size):
            raise Refused(partial_error(), headers={"Connection": "close"})

    async def next(self, receive: Receive, seconds: float) -> dict[str, Any]:
        """The next part, if it comes in time."""
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


async def _read_on(first: bytes, receive: Receive, limit: int, part: _Part) -> bytes:
    loop = asyncio.get_running_loop()
    parts, size, started, more = [first], len(first), loop.time(), True
    while more:
        if size > limit:
            raise _too_large(limit)
        part.grown(size)
        message = await part.next(receive, started + BODY_GRACE + size / BODY_RATE - loop.time())
        parts.append(message["body"])
        size += len(message["body"])
        more = message["more_body"]
    if size > limit:
        raise _too_large(limit)
    return b"".join(parts)


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
    """Too much has come in part."""
    return limit_error(
        "partial_bytes_per_principal",
        "too many bodies, or other messages, of this principal or of all have come in part; send fewer at a time",
    )


def _too_slow() -> Refused:
    error = RpcError(ErrorCode.COMMUNICATION_TIMEOUT, "the body of the request did not come in time")
    return Refused(error, REQUEST_TIMEOUT, {"Connection": "close"})


def _too_large(limit: int) -> Refused:
    error = limit_error(
        "max_message_bytes",
        f"the body has more than {limit} bytes",
        code=ErrorCode.INVALID_REQUEST,
        retry_after_ms=None,
    )
    return Refused(error, PAYLOAD_TOO_LARGE, {"Connection": "close"})


def require_one_value(body: bytes) -> None:
    """Refuse what is not exactly one JSON value: only such a one may be spliced into a message."""
    try:
        _raw_decoder.decode(body)
    except RecursionError as error:
        raise Refused(RpcError(ErrorCode.PARSE_ERROR, "the JSON is nested too deeply")) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Refused(RpcError(ErrorCode.PARSE_ERROR, f"not valid JSON: {error}")) from error
