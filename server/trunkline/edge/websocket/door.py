"""The WebSocket door: who is let in at which path, and what all its connections share."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Final, Protocol
from urllib.parse import parse_qsl

from picows import WSUpgradeRequest, WSUpgradeResponse, WSUpgradeResponseWithListener

from trunkline.edge.access.rules import AccessRules
from trunkline.edge.websocket.endpoints import Endpoint, endpoints
from trunkline.edge.websocket.listener import PING_INTERVAL, PING_TIMEOUT, WebSocketListener
from trunkline.hub.byte_account import ByteAccount
from trunkline.hub.connection import Services, Traffic
from trunkline.hub.outbox import Flusher
from trunkline.hub.principal import PENDING, Handshake, Principal
from trunkline_protocol.codecs.jsonrpc import encode_error, encode_error_object
from trunkline_protocol.errors import ErrorCode, RpcError, limit_error
from trunkline_protocol.traces import from_headers

MAX_PARAMS: Final = 64
"""Members that the query of an upgrade may have."""
MAX_PENDING: Final = 256
"""Connections that may be open without having authenticated."""
AT_ONCE: Final = 50
CLOSE_STEP: Final = 0.02
"""Seconds between the portions in which connections are closed, each of 50 or more."""

logger = logging.getLogger("trunkline.edge")


class Listener(Protocol):
    """A socket of a peer, of whatever kind."""

    @property
    def principal(self) -> Principal:
        """Who is at the other end now."""

    def close(self, code: int, reason: str) -> None:
        """Send what waits and end it."""

    def traffic(self) -> Traffic:
        """See :class:`trunkline.hub.connection.Door`."""


@dataclass(slots=True)
class WebSocketDoor:
    """Everything the listeners of one hub share."""

    services: Services
    access: AccessRules
    flusher: Flusher
    max_connections: int
    max_message_bytes: int
    outbox_bytes: int
    outbox_event_bytes: int
    auth_call: bool
    ping_interval: float = PING_INTERVAL
    ping_timeout: float = PING_TIMEOUT
    refused: Callable[[str, RpcError], None] = lambda _peer, _error: None
    partial: ByteAccount = field(default_factory=lambda: ByteAccount(256 * 2**20, 128 * 2**20))
    endpoints: dict[str, Endpoint] = field(default_factory=endpoints)
    listeners: dict[Listener, None] = field(default_factory=dict)
    pending: int = 0

    async def close_all(self, code: int, reason: str, spread: float) -> None:
        """Close every connection, the oldest first, spread over time, so that not all of them come back at once.

        Args:
            spread: seconds for all; a few are closed without waiting.
        """
        listeners = tuple(self.listeners)
        step = max(AT_ONCE, round(len(listeners) * CLOSE_STEP / max(spread, CLOSE_STEP)))
        for begin in range(0, len(listeners), step):
            if begin:
                await asyncio.sleep(CLOSE_STEP)
            for listener in listeners[begin : begin + step]:
                listener.close(code, reason)

    def close_where(self, unwanted: Callable[[Principal], bool], code: int, reason: str) -> int:
        """Close the connections of some principals. Returns how many."""
        chosen = [listener for listener in self.listeners if unwanted(listener.principal)]
        for listener in chosen:
            listener.close(code, reason)
        return len(chosen)

    def accept(self, request: WSUpgradeRequest, peer: str) -> WSUpgradeResponseWithListener:
        """Decide on one upgrade request."""
        headers = {name.lower(): ", ".join(request.headers.getall(name)) for name in request.headers}
        path, _, query = request.path.decode("latin-1").partition("?")
        endpoint = self.endpoints.get(path)
        try:
            if endpoint is None:
                known = ", ".join(self.endpoints)
                raise RpcError(ErrorCode.METHOD_NOT_FOUND, f"no WebSocket at {path!r:.100}; the hub has {known}")
            params = _params(query)
            handshake = Handshake(path, peer, headers, endpoint.token(headers, params), params)
            if headers.get("sec-websocket-version") != "13":
                raise RpcError(ErrorCode.INVALID_REQUEST, "this hub speaks WebSocket version 13 (RFC 6455)")
            self._check_room()
            principal = self._admit(handshake)
            agreed = endpoint.negotiate(headers, params)
        except RpcError as error:
            logger.warning("upgrade refused", extra={"peer": peer, "reason": error.message})
            self.refused(peer, error)
            return _refusal(error)
        except Exception:
            logger.exception("the authenticate hook failed")
            return _refusal(RpcError(ErrorCode.INTERNAL_ERROR, "the hub could not authenticate this connection"))
        trace = from_headers(headers.get("traceparent"), headers.get("tracestate"))
        extra = {"Sec-WebSocket-Protocol": agreed.subprotocol} if agreed.subprotocol else None
        response = WSUpgradeResponse.create_101_response(extra)
        return WSUpgradeResponseWithListener(
            response, WebSocketListener(self, principal, peer, agreed, headers.get("user-agent"), trace)
        )

    def _check_room(self) -> None:
        if len(self.listeners) >= self.max_connections:
            raise limit_error("max_connections", f"{len(self.listeners)} connections are open already")

    def _admit(self, handshake: Handshake) -> Principal:
        if not self.auth_call or handshake.token is not None:
            return self.access.admit(handshake)
        self.access.check_address(handshake)
        if self.pending >= MAX_PENDING:
            raise limit_error(
                "auth_call", f"{MAX_PENDING} connections have not authenticated yet; send the token with the upgrade"
            )
        return PENDING


def _params(query: str) -> dict[str, str]:
    """The query of a request; of names that come twice the last counts."""
    try:
        return dict(parse_qsl(query, keep_blank_values=True, max_num_fields=MAX_PARAMS))
    except ValueError as error:
        raise RpcError(ErrorCode.INVALID_REQUEST, f"the query has more than {MAX_PARAMS} members") from error


def _refusal(error: RpcError) -> WSUpgradeResponseWithListener:
    body = encode_error(b"null", encode_error_object(error))
    status = 403 if error.code in (ErrorCode.UNAUTHENTICATED, ErrorCode.FORBIDDEN) else error.row.http_status
    headers = {"Content-Type": "application/json", "Sec-WebSocket-Version": "13"}
    if error.retry_after_ms is not None:
        headers["Retry-After"] = str(math.ceil(error.retry_after_ms / 1000))
    response = WSUpgradeResponse.create_error_response(HTTPStatus(status), body, headers)
    return WSUpgradeResponseWithListener(response, None)
