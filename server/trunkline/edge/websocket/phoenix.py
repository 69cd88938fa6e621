"""The WebSocket endpoint for clients of Phoenix Channels V2: ``/socket/websocket?vsn=2.0.0``."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from typing import Final

from typing_extensions import override

from trunkline.edge.access.rules import find_token, offered_subprotocols
from trunkline.edge.websocket.endpoints import Endpoint, Negotiated
from trunkline_protocol.codecs.phoenix_events import EventCache
from trunkline_protocol.codecs.phoenix_v2 import PhoenixDialect
from trunkline_protocol.errors import ErrorCode, RpcError

PATH: Final = "/socket/websocket"
SUBPROTOCOL: Final = "phoenix"
BEARER: Final = "base64url.bearer.phx."
"""The prefix of phoenix.js' ``authToken``, which is in the standard alphabet of base64 despite the name."""

_VERSION: Final = re.compile(r"2\.0\.\d{1,3}")


class PhoenixEndpoint(Endpoint):
    """The endpoint :data:`PATH`, which speaks Phoenix Channels V2.

    Args:
        max_channels: how many channels one socket may join.
    """

    def __init__(self, max_channels: int) -> None:
        self._max_channels = max_channels
        self._events = EventCache()

    @override
    def token(self, headers: Mapping[str, str], params: Mapping[str, str]) -> str | None:
        # From Authorization, phoenix.js' authToken, or the parameter token.
        return find_token(headers) or _auth_token(headers) or params.get("token") or None

    @override
    def negotiate(self, headers: Mapping[str, str], params: Mapping[str, str]) -> Negotiated:
        version = params.get("vsn")
        if version is None or _VERSION.fullmatch(version) is None:
            said = "no vsn, which means 1.0.0" if version is None else f"vsn={version:.20}"
            raise RpcError(
                ErrorCode.INVALID_REQUEST, f"this hub speaks Phoenix Channels 2.0.0, the client {said}; add vsn=2.0.0"
            )
        offered = SUBPROTOCOL in offered_subprotocols(headers)
        return Negotiated(SUBPROTOCOL if offered else None, PhoenixDialect(self._events, self._max_channels), "phoenix")


def _auth_token(headers: Mapping[str, str]) -> str | None:
    for offered in offered_subprotocols(headers):
        if offered.startswith(BEARER):
            encoded = offered.removeprefix(BEARER).replace("-", "+").replace("_", "/")
            try:
                return base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True).decode()
            except (binascii.Error, UnicodeDecodeError):
                return None
    return None
