"""Requests that carry calls: their principal, and the headers they must have."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any, Final

import msgspec
from starlette.datastructures import Headers, QueryParams
from starlette.types import Scope

from trunkline.background import start_task
from trunkline.edge.access.rules import find_token
from trunkline.edge.context import EdgeContext
from trunkline.edge.http.answer import JSON, Refused
from trunkline.edge.http.named_requests import request_id_of, require_request_id
from trunkline.edge.http.wire import WIRE, Wire
from trunkline.edge.refusal import Refusal
from trunkline.hub.principal import AnsweredHandshake, Handshake, Principal
from trunkline_protocol.errors import ErrorCode, RpcError
from trunkline_protocol.messages import ActAs

EVENT_STREAM: Final = "text/event-stream"

JSON_TYPES: Final = frozenset({JSON, "application/json-rpc", "application/jsonrequest"})
"""Content types that a page of a foreign origin can send after a CORS preflight only."""

UNSUPPORTED_TYPE: Final = 415
METHOD_NOT_ALLOWED: Final = 405

PEER_LEFT: Final = RpcError(ErrorCode.WORKER_UNAVAILABLE, "the peer left while the authenticate hook was asked")

logger = logging.getLogger("trunkline.edge")
_raw_decoder: Final = msgspec.json.Decoder(msgspec.Raw)


def peer_of(scope: Scope) -> str:
    """The remote address as ``host:port``; ``unix`` for a Unix socket."""
    client = scope.get("client")
    return f"{client[0]}:{client[1]}" if client else "unix"


def wire_of(scope: Scope) -> Wire:
    """The TCP connection a request came over."""
    wire: Wire = scope[WIRE]
    return wire


async def answered(
    scope: Scope, handshake: Handshake, asking: Coroutine[Any, Any, AnsweredHandshake] | None
) -> Handshake:
    """The handshake of a request once what is asked of it is answered; the same where its peer leaves meanwhile.

    Args:
        asking: see :data:`trunkline.hub.principal.Prepare`.
    """
    if asking is None:
        return handshake
    wire, work = wire_of(scope), start_task(asking, "authentication of a request")
    wire.on_lost = work.cancel
    try:
        await asyncio.wait([work])
        return handshake.answered(PEER_LEFT) if work.cancelled() else work.result()
    finally:
        work.cancel()
        wire.on_lost = _nothing


def _nothing() -> None:
    """Replaces :attr:`Wire.on_lost`."""


async def admit(context: EdgeContext, scope: Scope, headers: Headers) -> Principal:
    """The principal of a request that is let in, by the access rules of every door.

    Raises:
        Refused: host, origin or credentials are not right, there are too many connections, or the request id is none.
    """
    peer, token = peer_of(scope), find_token(headers)
    try:
        context.check_room(peer)
        params = dict(QueryParams(scope["query_string"])) if scope["query_string"] else {}
        handshake = Handshake(scope["path"], peer, headers, token, params, wire_of(scope).certificate)
        if context.access.may_wait:
            handshake = await answered(scope, handshake, context.access.prepare(handshake))
            context.check_room(peer)
        principal = context.access.admit(handshake)
        context.services.shares.require_connection(principal)
    except RpcError as error:
        # No name here may hold it: with its traceback, which has this frame, it would be a cycle.
        _note_refusal(context, Refusal(peer, error, request_id_of(scope), token))
        raise Refused(error) from error
    require_request_id(headers)
    return principal


def _note_refusal(context: EdgeContext, refusal: Refusal) -> None:
    context.refused(refusal)
    logger.warning("request refused", extra=refusal.words())


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


def acting_tenant(context: EdgeContext, principal: Principal, metadata: Mapping[str, Any]) -> str:
    """The tenant of the principal that a call with this metadata is made as."""
    if "act_as" not in metadata:
        return principal.tenant
    try:
        return context.services.act_as(principal, msgspec.convert(metadata["act_as"], ActAs)).tenant
    except (msgspec.ValidationError, RpcError):
        return principal.tenant  # the call is refused for it


def require_method(scope: Scope, method: str) -> None:
    """Refuse any HTTP method but this one (405)."""
    if scope["method"] != method:
        error = RpcError(ErrorCode.INVALID_REQUEST, f"{scope['method']} is not supported here; send a {method}")
        raise Refused(error, METHOD_NOT_ALLOWED, {"Allow": method})


def require_json(headers: Headers) -> None:
    """Refuse a body that is not declared as JSON in UTF-8, without compression (415).

    A page of a foreign origin can send other types, or none, without a CORS preflight: they must not run anything.
    """
    kind, charset = media_type(headers.get("content-type", ""))
    if kind not in JSON_TYPES or charset not in ("", "utf-8", "utf8", "us-ascii"):
        raise unsupported_type(headers, (JSON,))
    require_uncompressed(headers)


def unsupported_type(headers: Headers, supported: Sequence[str]) -> Refused:
    """The refusal (415) of a body for its type, which names those that there are."""
    given = headers.get("content-type", "no Content-Type")
    words = f"send Content-Type: {' or '.join(supported)} (UTF-8), not {given!r:.100}"
    return Refused(RpcError(ErrorCode.INVALID_REQUEST, words), UNSUPPORTED_TYPE, {"Accept-Post": ", ".join(supported)})


def require_uncompressed(headers: Headers) -> None:
    """Refuse a compressed body (415)."""
    encoding = headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("", "identity"):
        words = f"Content-Encoding {encoding!r:.50} is not supported; send the body uncompressed"
        error = RpcError(ErrorCode.INVALID_REQUEST, words)
        raise Refused(error, UNSUPPORTED_TYPE, {"Accept-Encoding": "identity"})


def media_type(value: str) -> tuple[str, str]:
    """The type of a ``Content-Type`` and its charset, in lower case; empty where there is none."""
    kind, *parameters = (part.strip().lower() for part in value.split(";"))
    charset = ""
    for parameter in parameters:
        name, _, given = parameter.partition("=")
        if name.strip() == "charset":
            charset = given.strip().strip('"')
    return kind, charset


def accepts(headers: Headers, wanted: str) -> bool:
    """Whether ``Accept`` names a media type. ``*/*``, the default of most clients, does not stand for it."""
    for part in ",".join(headers.getlist("accept")).split(","):
        kind, _, parameters = part.strip().lower().partition(";")
        if kind.strip() == wanted:
            return parameters.replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    return False


def require_one_value(body: bytes) -> None:
    """Refuse a body that is not exactly one JSON value: only such a body may be spliced into a JSON-RPC message."""
    try:
        _raw_decoder.decode(body)
    except RecursionError as error:
        raise Refused(RpcError(ErrorCode.PARSE_ERROR, "the JSON is nested too deeply")) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Refused(RpcError(ErrorCode.PARSE_ERROR, f"not valid JSON: {error}")) from error
