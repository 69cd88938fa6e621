"""Who is at the other end of a connection, and how a door finds out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

ROLES: Final = frozenset({"admin", "callee"})
"""``admin``: configuration and others' calls. ``callee``: registering methods."""


@dataclass(frozen=True, slots=True)
class Principal:
    """An authenticated peer. ``name`` may appear in logs; credentials never do."""

    name: str
    roles: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Handshake:
    """What a door knows of a peer before anything is said.

    Attributes:
        path: the request's path, without the query.
        headers: names in lower case. Treat as secret: it holds credentials.
        peer: remote address as ``host:port``.
        token: the bearer token, wherever the door found it, or None.
    """

    path: str
    peer: str
    headers: Mapping[str, str] = field(repr=False)
    token: str | None = field(default=None, repr=False)


Authenticate = Callable[[Handshake], Principal]
"""The one hook of every door. Raises :class:`trunkline_protocol.errors.RpcError` 6001 to refuse."""

ANONYMOUS: Final = Principal("anonymous", ROLES)
"""The principal of a loopback hub without a token: it may do everything."""
