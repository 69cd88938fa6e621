"""The WebSocket door: accepts or refuses upgrades, by path."""

from __future__ import annotations

import logging
import math
from collections.abc import Coroutine, Mapping
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import parse_qsl

from picows import WSUpgradeRequest, WSUpgradeResponse, WSUpgradeResponseWithListener

from trunkline.edge.context import EdgeContext
from trunkline.edge.refusal import Refusal
from trunkline.edge.websocket.endpoints import Endpoint
from trunkline.edge.websocket.endpoints import endpoints as own_endpoints
from trunkline.edge.websocket.listener import WebSocketListener
from trunkline.edge.websocket.refusing_listener import MAX_REFUSING, RefusingListener, subprotocol_of
from trunkline.hub.principal import AnsweredHandshake, Handshake
from trunkline_protocol.codecs.jsonrpc import encode_error, encode_error_object
from trunkline_protocol.errors import ErrorCode, RpcError
from trunkline_protocol.request_ids import request_id_for
from trunkline_protocol.traces import from_headers

Certificate = Mapping[str, Any] | None

MAX_PARAMS: Final = 64
"""Limit of the parameters in an upgrade's query."""

logger = logging.getLogger("trunkline.edge")


class WebSocketDoor:
    """Accepts or refuses upgrades.

    Args:
        context: what all connections of the hub share.
        endpoints: by path; None for those of this hub's own protocol.
    """

    def __init__(self, context: EdgeContext, endpoints: Mapping[str, Endpoint] | None = None) -> None:
        self.context = context
        self.endpoints = own_endpoints() if endpoints is None else endpoints
        self._refusing = 0

    def prepare(
        self, target: str, headers: Mapping[str, str], peer: str, certificate: Certificate
    ) -> Coroutine[Any, Any, AnsweredHandshake] | None:
        """What to await before :meth:`accept`; see :data:`trunkline.hub.principal.Prepare`.

        Args:
            target: the request's path and query.
            headers: names in lower case.
            certificate: see :class:`trunkline.hub.principal.Handshake`.
        """
        try:
            handshake = self._handshake(self._endpoint(target), target, headers, peer, certificate)
            self._require_room(headers, peer)
        except RpcError:
            return None
        return self.context.prepare(handshake)

    def accept(
        self,
        request: WSUpgradeRequest,
        peer: str,
        answered: Handshake | None = None,
        certificate: Certificate = None,
    ) -> WSUpgradeResponseWithListener:
        """The response to an upgrade request: 101 with a listener, or the error that refuses it.

        Args:
            answered: the handshake that :meth:`prepare` led to.
            certificate: see :class:`trunkline.hub.principal.Handshake`.
        """
        headers = {name.lower(): ", ".join(request.headers.getall(name)) for name in request.headers}
        target, token = request.path.decode("latin-1"), None
        try:
            endpoint = self._endpoint(target)
            handshake = answered or self._handshake(endpoint, target, headers, peer, certificate)
            token = handshake.token
            self._require_room(headers, peer)
            principal = self.context.admit(handshake)
            agreed = endpoint.negotiate(headers, handshake.params, principal)
        except RpcError as error:
            # No name here may hold it: with its traceback, which has this frame, it would be a cycle.
            return self._refuse(Refusal(peer, error, request_id_for(headers.get("x-request-id")), token), headers)
        except Exception:
            request_id = request_id_for(headers.get("x-request-id"))
            logger.exception("the authenticate hook failed", extra={"request_id": request_id})
            failure = RpcError(ErrorCode.INTERNAL_ERROR, "the hub could not authenticate this connection")
            return self._refusal(Refusal(peer, failure, request_id), headers)
        trace = from_headers(headers.get("traceparent"), headers.get("tracestate"))
        listener = WebSocketListener(self.context, principal, peer, agreed, headers.get("user-agent"), trace)
        return WSUpgradeResponseWithListener(_accepted(agreed.subprotocol), listener)

    def _endpoint(self, target: str) -> Endpoint:
        path = target.partition("?")[0]
        if (endpoint := self.endpoints.get(path)) is not None:
            return endpoint
        known = ", ".join(self.endpoints)
        raise RpcError(ErrorCode.METHOD_NOT_FOUND, f"no WebSocket endpoint at {path!r:.100}; this hub has {known}")

    @staticmethod
    def _handshake(
        endpoint: Endpoint, target: str, headers: Mapping[str, str], peer: str, certificate: Certificate
    ) -> Handshake:
        path, _, query = target.partition("?")
        params = _params(query)
        return Handshake(path, peer, headers, endpoint.token(headers, params), params, certificate)

    def _require_room(self, headers: Mapping[str, str], peer: str) -> None:
        if headers.get("sec-websocket-version") != "13":
            raise RpcError(ErrorCode.INVALID_REQUEST, "this hub speaks WebSocket version 13 (RFC 6455)")
        self.context.check_room(peer)

    def _refuse(self, refusal: Refusal, headers: Mapping[str, str]) -> WSUpgradeResponseWithListener:
        logger.warning("upgrade refused", extra=refusal.words())
        self.context.refused(refusal)
        return self._refusal(refusal, headers)

    def _refusal(self, refusal: Refusal, headers: Mapping[str, str]) -> WSUpgradeResponseWithListener:
        error = refusal.error
        body = encode_error(b"null", encode_error_object(error))
        subprotocol = subprotocol_of(headers)
        if subprotocol is None or self._refusing >= MAX_REFUSING or headers.get("sec-websocket-version") != "13":
            return _http_refusal(refusal, body)
        self._refusing += 1
        return WSUpgradeResponseWithListener(_accepted(subprotocol), RefusingListener(error, body, self._refused_one))

    def _refused_one(self) -> None:
        self._refusing -= 1


def _accepted(subprotocol: str | None) -> WSUpgradeResponse:
    extra = {"Sec-WebSocket-Protocol": subprotocol} if subprotocol else None
    response: WSUpgradeResponse = WSUpgradeResponse.create_101_response(extra)
    return response


def _params(query: str) -> dict[str, str]:
    """The parameters of a query; of a name that occurs twice the last value counts."""
    try:
        return dict(parse_qsl(query, keep_blank_values=True, max_num_fields=MAX_PARAMS))
    except ValueError as error:
        raise RpcError(ErrorCode.INVALID_REQUEST, f"the query has more than {MAX_PARAMS} parameters") from error


def _http_refusal(refusal: Refusal, body: bytes) -> WSUpgradeResponseWithListener:
    error = refusal.error
    status = 403 if error.code in (ErrorCode.UNAUTHENTICATED, ErrorCode.FORBIDDEN) else error.row.http_status
    headers = {
        "Content-Type": "application/json",
        "Sec-WebSocket-Version": "13",
        "X-Request-Id": refusal.request_id,
    }
    if error.retry_after_ms is not None:
        headers["Retry-After"] = str(math.ceil(error.retry_after_ms / 1000))
    response = WSUpgradeResponse.create_error_response(HTTPStatus(status), body, headers)
    return WSUpgradeResponseWithListener(response, None)
