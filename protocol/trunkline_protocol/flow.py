"""Credit: how far the sender of a stream may run ahead of what its receiver has taken. Pure.

The receiver says how many items it has consumed **in total**, so that a repeated, late or lost grant is harmless;
the sender, who knows what each item weighed, maps items to bytes. Every stream of the wire has this rule: chunks from
a method, items pushed to it, chunks from a callee, in whichever process the sender is.
"""

from __future__ import annotations

from collections import deque
from typing import Final

WINDOW_ITEMS: Final = 64
"""Items that may be ahead where nobody says otherwise."""

WINDOW_BYTES: Final = 256 * 1024
"""Bytes (JSON of the data) that may be ahead where nobody says otherwise."""


class SendWindow:
    """The sender's window of one stream: what was sent, and how much of it the receiver has consumed.

    One item may always go, however large: nothing is exhausted while nothing is ahead.

    >>> window = SendWindow(items=2, size=100)
    >>> window.spend(60), window.exhausted
    (None, False)
    >>> window.spend(60), window.exhausted
    (None, True)
    >>> window.grant(1), window.grant(1), window.exhausted
    (True, False, False)

    Args:
        items: how many may be ahead, 1 or more.
        size: how many bytes may be ahead, 1 or more.

    Attributes:
        sent: items sent so far.
        consumed: items the receiver has taken so far; it never goes back and never beyond ``sent``.
        ahead_bytes: what the items weigh that were sent and not yet taken.
    """

    __slots__ = ("_items", "_size", "_sizes", "ahead_bytes", "consumed", "sent")

    def __init__(self, items: int = WINDOW_ITEMS, size: int = WINDOW_BYTES) -> None:
        self._items = items
        self._size = size
        self._sizes: deque[int] = deque()
        self.sent = 0
        self.consumed = 0
        self.ahead_bytes = 0

    @property
    def ahead(self) -> int:
        """Items that were sent and not yet taken."""
        return len(self._sizes)

    @property
    def exhausted(self) -> bool:
        """Whether the next item has to wait."""
        return len(self._sizes) >= self._items or self.ahead_bytes >= self._size

    def spend(self, size: int) -> None:
        """Count one item of ``size`` bytes as sent. The sender has to look at :attr:`exhausted` before."""
        self.sent += 1
        self._sizes.append(size)
        self.ahead_bytes += size

    def grant(self, consumed: int) -> bool:
        """Take credit: ``consumed`` items in total were consumed. Returns whether that is more than before."""
        sizes, before = self._sizes, self.consumed
        while self.consumed < consumed and sizes:
            self.consumed += 1
            self.ahead_bytes -= sizes.popleft()
        return self.consumed > before
