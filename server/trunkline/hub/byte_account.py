"""How many bytes peers make the hub keep, by principal and in all, and whose go where that is too much. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

STEP: Final = 64 * 1024
"""Less than this of one holder is not counted."""


class Holding:
    """What one connection, request or session makes the hub keep. Made by :meth:`ByteAccount.holding`.

    Attributes:
        bytes: that are counted now.
    """

    __slots__ = ("_account", "bytes", "evict", "principal")

    def __init__(self, account: ByteAccount, principal: str, evict: Callable[[], None]) -> None:
        self._account = account
        self.principal = principal
        self.evict = evict
        self.bytes = 0

    def update(self, size: int) -> bool:
        """It is so many bytes now. Returns False where that is too much: then it is counted no more, and has to go."""
        return self._account.update(self, size)

    def release(self) -> None:
        """There is nothing any more."""
        if self.bytes:
            self._account.update(self, 0)


class ByteAccount:
    """Bytes of one kind. Who goes beyond its principal's share has to go itself. Where all shares together are too
    much, the largest holding of the principal that has most goes: it is told by its ``evict``.

    Args:
        total: bytes of all.
        per_principal: of one of them.

    Attributes:
        used: bytes that are counted now.
    """

    def __init__(self, total: int, per_principal: int) -> None:
        self._total = total
        self._per_principal = per_principal
        self._holdings: dict[str, dict[Holding, None]] = {}
        self._used: dict[str, int] = {}
        self.used = 0

    def holding(self, principal: str, evict: Callable[[], None]) -> Holding:
        """A new one, empty.

        Args:
            evict: called where it has to go for others. It is counted no more by then.
        """
        return Holding(self, principal, evict)

    def of(self, principal: str) -> int:
        """Bytes of one principal."""
        return self._used.get(principal, 0)

    def update(self, holding: Holding, size: int) -> bool:
        """See :meth:`Holding.update`."""
        self._set(holding, size if size >= STEP else 0)
        if self.of(holding.principal) > self._per_principal:
            self._set(holding, 0)
            return False
        while self.used > self._total:
            victim = self._largest()
            self._set(victim, 0)
            if victim is holding:
                return False
            victim.evict()
        return True

    def _largest(self) -> Holding:
        principal = max(self._used, key=self._used.__getitem__)
        return max(self._holdings[principal], key=lambda holding: holding.bytes)

    def _set(self, holding: Holding, size: int) -> None:
        principal, grown = holding.principal, size - holding.bytes
        if not grown:
            return
        holding.bytes = size
        self.used += grown
        self._used[principal] = self._used.get(principal, 0) + grown
        holdings = self._holdings.setdefault(principal, {})
        if size:
            holdings[holding] = None
            return
        holdings.pop(holding, None)
        if not holdings:
            del self._holdings[principal], self._used[principal]
