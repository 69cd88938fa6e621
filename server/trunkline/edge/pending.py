"""Connections that have not authenticated yet: a bounded number, in which no address keeps others out. Pure."""

from __future__ import annotations

from typing import Final, Protocol

from trunkline.edge.fragments import TRY_AGAIN_LATER
from trunkline.hub.shares import address_of
from trunkline_protocol.errors import limit_error

MAX_PENDING: Final = 256
"""Connections that may be open without having authenticated."""

LOCAL: Final = "local"
"""Stands for the address of peers that have none."""


class Closable(Protocol):
    """A connection that can be closed."""

    def close(self, code: int, reason: str) -> None:
        """Send what waits, then close the socket with this close code and reason."""


class PendingConnections:
    """The connections that have not authenticated yet, by address, the oldest first."""

    def __init__(self) -> None:
        self._by_address: dict[str, dict[Closable, None]] = {}
        self._addresses: dict[Closable, str] = {}

    def __len__(self) -> int:
        return len(self._addresses)

    def make_room(self, peer: str) -> None:
        """Make room for one more: where there is none, the oldest of the address that has most is closed.

        Raises:
            RpcError: 2003, ``auth_call``: no address has more than the peer's own.
        """
        if len(self) < MAX_PENDING:
            return
        most = max(self._by_address.values(), key=len)
        if len(self._by_address.get(_key(peer), ())) >= len(most):
            words = f"{MAX_PENDING} connections have not authenticated yet; send the token with the upgrade"
            raise limit_error("auth_call", words)
        oldest = next(iter(most))
        self.remove(oldest)
        oldest.close(TRY_AGAIN_LATER, "too many connections have not authenticated yet, most of them of this address")

    def add(self, connection: Closable, peer: str) -> None:
        """Count a connection."""
        self._addresses[connection] = key = _key(peer)
        self._by_address.setdefault(key, {})[connection] = None

    def remove(self, connection: Closable) -> None:
        """Count a connection no more; without effect on one that is not counted."""
        key = self._addresses.pop(connection, None)
        if key is not None:
            of_address = self._by_address[key]
            del of_address[connection]
            if not of_address:
                del self._by_address[key]


def _key(peer: str) -> str:
    return address_of(peer) or LOCAL
