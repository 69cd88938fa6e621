"""Clients of Phoenix Channels V2: the WebSocket endpoint ``/socket/websocket?vsn=2.0.0``, and what polling shares."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Mapping
from typing import Final

from typing_extensions import override

from trunkline.edge.access.rules import find_token, offered_subprotocols
from trunkline.edge.websocket.endpoints import Endpoint, Negotiated
from trunkline_protocol.codecs.phoenix_events import EventCache
from trunkline_protocol.codecs.phoenix_names import ChannelNames
from trunkline_protocol.codecs.phoenix_v2 import PhoenixDialect
from trunkline_protocol.errors import ErrorCode, RpcError

PATH: Final = "/socket/websocket"
SUBPROTOCOL: Final = "phoenix"
BEARER: Final = "base64url.bearer.phx."
"""The prefix of phoenix.js' ``authToken``, which is in the standard alphabet of base64 despite the name."""

AUTH_HEADER: Final = "X-Phoenix-AuthToken"
"""Where phoenix.js puts its ``authToken`` as it polls."""

_VERSION: Final = re.compile(r"2\.0\.\d{1,3}")


class PhoenixEndpoint(Endpoint):
    """The endpoint :data:`PATH`, which speaks Phoenix Channels V2.

    Args:
        max_channels: how many channels one socket may join.
        channels: those that are topics, beside ``topic:<name>``: see :class:`ChannelNames`.
    """

    def __init__(self, max_channels: int, channels: Iterable[str] = ()) -> None:
        self._max_channels = max_channels
        self._names = ChannelNames(tuple(channels))
        self._events = EventCache()

    @override
    def token(self, headers: Mapping[str, str], params: Mapping[str, str]) -> str | None:
        # From Authorization, phoenix.js' authToken, or the parameter token.
        named = _auth_token(headers) or headers.get(AUTH_HEADER.lower())
        return find_token(headers) or named or params.get("token") or None

    @override
    def negotiate(self, headers: Mapping[str, str], params: Mapping[str, str]) -> Negotiated:
        require_version(params)
        offered = SUBPROTOCOL in offered_subprotocols(headers)
        return Negotiated(SUBPROTOCOL if offered else None, self.dialect(), "phoenix")

    def dialect(self, *, takes_binary: bool = True) -> PhoenixDialect:
        """A new dialect object, for one peer.

        Args:
            takes_binary: whether the peer's transport can carry binary frames to it.
        """
        return PhoenixDialect(self._events, self._max_channels, self._names, takes_binary=takes_binary)


def require_version(params: Mapping[str, str]) -> None:
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
