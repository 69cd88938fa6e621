"""The WebSocket paths of the hub: which dialect each speaks, and where a peer puts its token."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from trunkline.edge.access.rules import choose_subprotocol, find_token
from trunkline_protocol.codecs import msgpack
from trunkline_protocol.codecs.dialect import Dialect


@dataclass(frozen=True, slots=True)
class Negotiated:
    """What was agreed on: the subprotocol to answer with, if any, and the dialect; None for JSON-RPC in text frames.

    ``transport`` is that of :class:`trunkline.hub.connection.Traffic`.
    """

    subprotocol: str | None
    dialect: Dialect | None = None
    transport: str = "websocket"


class Endpoint(Protocol):
    """One path. ``params`` are those of the query, as they came."""

    def token(self, headers: Mapping[str, str], params: Mapping[str, str]) -> str | None:
        """The bearer token, wherever this endpoint's clients can put one."""

    def negotiate(self, headers: Mapping[str, str], params: Mapping[str, str]) -> Negotiated:
        """Agree on a version and a subprotocol.

        Raises:
            RpcError: -32600, the peer wants only what this hub does not speak.
        """


class JsonRpcEndpoint:
    """``/ws``: JSON in text frames, or MessagePack in binary ones."""

    def token(self, headers: Mapping[str, str], _params: Mapping[str, str]) -> str | None:
        """``Authorization``, or the subprotocol browsers use."""
        return find_token(headers)

    def negotiate(self, headers: Mapping[str, str], _params: Mapping[str, str]) -> Negotiated:
        """See :class:`Endpoint`."""
        chosen = choose_subprotocol(headers)
        if chosen == msgpack.SUBPROTOCOL:
            return Negotiated(chosen, msgpack.MessagePackDialect(), "msgpack")
        return Negotiated(chosen)


def endpoints() -> dict[str, Endpoint]:
    """All of them, by path."""
    return {"/ws": JsonRpcEndpoint()}
