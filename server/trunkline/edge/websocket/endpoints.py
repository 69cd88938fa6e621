"""The WebSocket endpoints of the hub, by path: the dialect of each, and where a peer puts its token."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from typing_extensions import override

from trunkline.edge.access.rules import choose_subprotocol, find_token
from trunkline.hub.principal import Principal
from trunkline_protocol.codecs import msgpack
from trunkline_protocol.codecs.dialect import Dialect


@dataclass(frozen=True, slots=True)
class Negotiated:
    """The outcome of a negotiation: the subprotocol to answer with, and the dialect; None for JSON-RPC in text frames.

    ``transport`` is that of :class:`trunkline.hub.connection.Traffic`.
    """

    subprotocol: str | None
    dialect: Dialect | None = None
    transport: str = "websocket"


class Endpoint(Protocol):
    """The endpoint at one path. ``params`` are those of the query."""

    def token(self, headers: Mapping[str, str], params: Mapping[str, str]) -> str | None:
        """The bearer token of an upgrade, wherever this endpoint's clients can put one; None without."""

    def negotiate(self, headers: Mapping[str, str], params: Mapping[str, str], principal: Principal) -> Negotiated:
        """The version and subprotocol that hub and peer agree on.

        Args:
            principal: who the peer is; ``PENDING`` where it has not said yet.

        Raises:
            RpcError: -32600, the peer offers only versions that this hub does not speak.
        """


class JsonRpcEndpoint(Endpoint):
    """The endpoint ``/ws``: JSON-RPC as JSON in text frames, or as MessagePack in binary ones."""

    @override
    def token(self, headers: Mapping[str, str], _params: Mapping[str, str]) -> str | None:
        # From Authorization, or the subprotocol that browsers use.
        return find_token(headers)

    @override
    def negotiate(self, headers: Mapping[str, str], _params: Mapping[str, str], _principal: Principal) -> Negotiated:
        chosen = choose_subprotocol(headers)
        if chosen == msgpack.SUBPROTOCOL:
            return Negotiated(chosen, msgpack.MessagePackDialect(), "msgpack")
        return Negotiated(chosen)


def endpoints() -> dict[str, Endpoint]:
    """The endpoints of the hub's own protocol, by path."""
    return {"/ws": JsonRpcEndpoint()}
