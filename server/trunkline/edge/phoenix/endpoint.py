"""Clients of Phoenix Channels V2: the WebSocket endpoint ``/socket/websocket?vsn=2.0.0``, and what polling shares."""

from __future__ import annotations

import base64
import binascii
import re
import time
from collections.abc import Iterable, Mapping
from typing import Final

from typing_extensions import override

from trunkline.edge.access.rules import find_token, offered_subprotocols
from trunkline.edge.websocket.endpoints import Endpoint, Negotiated
from trunkline.hub.principal import PENDING, Principal
from trunkline_protocol.codecs.phoenix_events import EventCache
from trunkline_protocol.codecs.phoenix_memory import MAX_CLIENT_CHARS, ClientMemories, ClientMemory
from trunkline_protocol.codecs.phoenix_names import ChannelNames
from trunkline_protocol.codecs.phoenix_v2 import PhoenixDialect
from trunkline_protocol.errors import ErrorCode, RpcError

PATH: Final = "/socket/websocket"
SUBPROTOCOL: Final = "phoenix"
BEARER: Final = "base64url.bearer.phx."
"""The prefix of phoenix.js' ``authToken``, which is in the standard alphabet of base64 despite the name."""

AUTH_HEADER: Final = "X-Phoenix-AuthToken"
"""Where phoenix.js puts its ``authToken`` as it polls."""

CLIENT: Final = "client"
"""The param by which a client names itself, so that its next socket goes on where this one was."""

_VERSION: Final = re.compile(r"2\.0\.\d{1,3}")


class PhoenixEndpoint(Endpoint):
    """The endpoint :data:`PATH`, which speaks Phoenix Channels V2.

    Args:
        max_channels: how many channels one socket may join.
        channels: those that are topics, beside ``topic:<name>``: see :class:`ChannelNames`.
        memories: of clients that name themselves, by the param :data:`CLIENT`.
    """

    def __init__(self, max_channels: int, channels: Iterable[str] = (), memories: ClientMemories | None = None) -> None:
        self._memories = ClientMemories(0.0, 0, 0, 0, time.monotonic) if memories is None else memories
        self._max_channels = max_channels
        self._names = ChannelNames(tuple(channels))
        self._events = EventCache()

    @override
    def token(self, headers: Mapping[str, str], params: Mapping[str, str]) -> str | None:
        # From Authorization, phoenix.js' authToken, or the parameter token.
        named = _auth_token(headers) or headers.get(AUTH_HEADER.lower())
        return find_token(headers) or named or params.get("token") or None

    @override
    def negotiate(self, headers: Mapping[str, str], params: Mapping[str, str], principal: Principal) -> Negotiated:
        dialect = self.dialect(params, principal)
        offered = SUBPROTOCOL in offered_subprotocols(headers)
        return Negotiated(SUBPROTOCOL if offered else None, dialect, "phoenix")

    def dialect(self, params: Mapping[str, str], principal: Principal, *, takes_binary: bool = True) -> PhoenixDialect:
        """A new dialect object, for one peer.

        Args:
            params: those of the query.
            principal: who the peer is.
            takes_binary: whether the peer's transport can carry binary frames to it.

        Raises:
            RpcError: -32600, the peer speaks another version, or names itself in no way that can be kept.
        """
        _require_version(params)
        memory = self._memory_of(params.get(CLIENT), principal)
        return PhoenixDialect(self._events, self._max_channels, self._names, memory, takes_binary=takes_binary)

    def _memory_of(self, client: str | None, principal: Principal) -> ClientMemory | None:
        if client is None:
            return None
        if not 0 < len(client) <= MAX_CLIENT_CHARS:
            words = f"the param {CLIENT} has to be 1 to {MAX_CLIENT_CHARS} characters"
            raise RpcError(ErrorCode.INVALID_REQUEST, words)
        if principal is PENDING:
            words = f"the param {CLIENT} is kept by principal: send the credentials as you connect, or leave it out"
            raise RpcError(ErrorCode.INVALID_REQUEST, words)
        return self._memories.of((principal.tenant, principal.name, client))


def _require_version(params: Mapping[str, str]) -> None:
    """Refuse (-32600) any version of Phoenix Channels but V2."""
    version = params.get("vsn")
    if version is None or _VERSION.fullmatch(version) is None:
        said = "no vsn, which means 1.0.0" if version is None else f"vsn={version:.20}"
        raise RpcError(
            ErrorCode.INVALID_REQUEST, f"this hub speaks Phoenix Channels 2.0.0, the client {said}; add vsn=2.0.0"
        )


def _auth_token(headers: Mapping[str, str]) -> str | None:
    for offered in offered_subprotocols(headers):
        if offered.startswith(BEARER):
            encoded = offered.removeprefix(BEARER).replace("-", "+").replace("_", "/")
            try:
                return base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True).decode()
            except (binascii.Error, UnicodeDecodeError):
                return None
    return None
