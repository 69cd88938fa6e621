"""Requests that carry calls: their principal, the headers they must have, and their body, bounded in bytes and time."""

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
"""Seconds that any body may take, plus one more for each :data:`BODY_RATE` bytes that have arrived."""

BODY_RATE: Final = 16 * 1024
"""Bytes a second at which a large body has to arrive."""

EVENT_STREAM: Final = "text/event-stream"

JSON_TYPES: Final = frozenset({JSON, "application/json-rpc", "application/jsonrequest"})
"""Content types that a page of a foreign origin can send after a CORS preflight only."""

PAYLOAD_TOO_LARGE: Final = 413
UNSUPPORTED_TYPE: Final = 415
METHOD_NOT_ALLOWED: Final = 405
REQUEST_TIMEOUT: Final = 408

logger = logging.getLogger("trunkline.edge")
_raw_decoder: Final = msgspec.json.Decoder(msgspec.Raw)


class PeerLeft(Exception):
    """Raised when the peer has disconnected before its response was complete."""


def peer_of(scope: Scope) -> str:
    """The remote address as ``host:port``; ``unix`` for a Unix socket."""
    client = scope.get("client")
    return f"{client[0]}:{client[1]}" if client else "unix"


def wire_of(scope: Scope) -> Wire:
    """The TCP connection a request came over."""
    wire: Wire = scope[WIRE]
    return wire


def admit(context: EdgeContext, scope: Scope, headers: Headers) -> Principal:
    """The principal of a request that is let in, by the access rules of every door.

    Raises:
        Refused: host, origin or credentials are not right, or there are too many connections.
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


def acting_as(headers: Headers) -> dict[str, Any]:
    """The ``act_as`` of a call's metadata, from the header ``X-Act-As``; empty where there is none.

    Raises:
        Refused: -32602 (400), the header is no JSON object.
    """
    if (named := headers.get("X-Act-As")) is None:
        return {}
    try:
        return {"act_as": msgspec.json.decode(named, type=dict[str, Any])}
    except (msgspec.DecodeError, UnicodeError) as error:
        words = f'header X-Act-As has to be JSON, such as {{"principal":"ann"}}: {error}'
        raise Refused(RpcError(ErrorCode.INVALID_PARAMS, words)) from None


def require_method(scope: Scope, method: str) -> None:
    """Refuse any HTTP method but this one (405)."""
    if scope["method"] != method:
        error = RpcError(ErrorCode.INVALID_REQUEST, f"{scope['method']} is not supported here; send a {method}")
        raise Refused(error, METHOD_NOT_ALLOWED, {"Allow": method})


def require_json(headers: Headers) -> None:
    """Refuse a body that is not declared as JSON in UTF-8, without compression (415).

    A page of a foreign origin can send other types, or none, without a CORS preflight: they must not run anything.
    """
    kind, charset = _media_type(headers.get("content-type", ""))
    if kind not in JSON_TYPES or charset not in ("", "utf-8", "utf8", "us-ascii"):
        given = headers.get("content-type", "no Content-Type")
        error = RpcError(ErrorCode.INVALID_REQUEST, f"send Content-Type: {JSON} (UTF-8), not {given!r:.100}")
        raise Refused(error, UNSUPPORTED_TYPE, {"Accept-Post": JSON})
    encoding = headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("", "identity"):
        words = f"Content-Encoding {encoding!r:.50} is not supported; send the body uncompressed"
        error = RpcError(ErrorCode.INVALID_REQUEST, words)
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
    """Whether ``Accept`` names server-sent events. ``*/*``, the default of most clients, does not stand for them."""
    for part in ",".join(headers.getlist("accept")).split(","):
        kind, _, parameters = part.strip().lower().partition(";")
        if kind.strip() == EVENT_STREAM:
            return parameters.replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    return False


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
        raise Refused(RpcError(ErrorCode.PARSE_ERROR, "not valid JSON: the body is not UTF-8")) from refused
    return body


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


def require_one_value(body: bytes) -> None:
    """Refuse a body that is not exactly one JSON value: only such a body may be spliced into a JSON-RPC message."""
    try:
        _raw_decoder.decode(body)
    except RecursionError as error:
        raise Refused(RpcError(ErrorCode.PARSE_ERROR, "the JSON is nested too deeply")) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Refused(RpcError(ErrorCode.PARSE_ERROR, f"not valid JSON: {error}")) from error
