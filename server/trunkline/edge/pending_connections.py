"""Connections that have not authenticated yet, or peers whose authentication takes its time: a bounded number, in which
no address keeps others out. Pure.
"""

from __future__ import annotations

from typing import Final, Protocol

from trunkline.hub.authentication import TRY_AGAIN_LATER
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
    """Connections that wait to be authenticated, by address, the oldest first.

    Args:
        most: how many there may be; None for :data:`MAX_PENDING`.
        setting: that of the error where there are as many, without prefix.
        words: what they do.
        advice: what to do instead.
    """

    def __init__(
        self,
        most: int | None = None,
        setting: str = "auth_call",
        words: str = "have not authenticated yet",
        advice: str = "send the token with the upgrade",
    ) -> None:
        self._most = MAX_PENDING if most is None else most
        self._setting = setting
        self._words = words
        self._advice = advice
        self._by_address: dict[str, dict[Closable, None]] = {}
        self._addresses: dict[Closable, str] = {}

    def __len__(self) -> int:
        return len(self._addresses)

    def make_room(self, peer: str) -> None:
        """Make room for one more: where there is none, the oldest of the address that has most is closed.

        Raises:
            RpcError: 2003: no address has more than the peer's own.
        """
        if len(self) < self._most:
            return
        most = max(self._by_address.values(), key=len)
        if len(self._by_address.get(_key(peer), ())) >= len(most):
            raise limit_error(self._setting, f"{self._most} connections {self._words}; {self._advice}")
        oldest = next(iter(most))
        self.remove(oldest)
        oldest.close(TRY_AGAIN_LATER, f"too many connections {self._words}, most of them of this address")

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
