"""Accounts of memory that peers make the hub hold, per principal and in total, with eviction at the limits. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

STEP: Final = 64 * 1024
"""Bytes below which a holding is not counted."""


class Holding:
    """Bytes that one connection, request or session makes the hub hold. Made by :meth:`ByteAccount.holding`.

    Attributes:
        bytes: how many are counted now.
    """

    __slots__ = ("_account", "bytes", "evict", "principal")

    def __init__(self, account: ByteAccount, principal: str, evict: Callable[[], None]) -> None:
        self._account = account
        self.principal = principal
        self.evict = evict
        self.bytes = 0

    def update(self, size: int) -> bool:
        """Set the size. Returns False where that is too much: it counts no more then, and has to be freed."""
        return self._account.update(self, size)

    def release(self) -> None:
        """Count no bytes any more."""
        if self.bytes:
            self._account.update(self, 0)


class ByteAccount:
    """An account of bytes of one kind. A holding that exceeds its principal's limit is refused. Above the total, the
    largest holding of the principal with the most bytes is evicted: its ``evict`` is called.

    Args:
        total: limit for all principals together.
        per_principal: limit for each principal.

    Attributes:
        used: how many bytes are counted now.
    """

    def __init__(self, total: int, per_principal: int) -> None:
        self._total = total
        self._per_principal = per_principal
        self._holdings: dict[str, dict[Holding, None]] = {}
        self._used: dict[str, int] = {}
        self.used = 0

    def holding(self, principal: str, evict: Callable[[], None]) -> Holding:
        """A new, empty holding.

        Args:
            principal: the key of whose connection, request or session it is.
            evict: frees the bytes for others; called when they are counted no more.
        """
        return Holding(self, principal, evict)

    def of(self, principal: str) -> int:
        """The bytes of one principal."""
        return self._used.get(principal, 0)

    def update(self, holding: Holding, size: int) -> bool:
        """Set the size of a holding. Returns False where that is too much: it is counted no more then."""
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
