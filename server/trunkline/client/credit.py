"""When the reader of a stream says how far it is. Pure; the sender's side is :mod:`trunkline_protocol.flow`."""

from __future__ import annotations

from typing import Final

from trunkline_protocol.messages import Window

MAX_ITEMS: Final = 1024
MAX_BYTES: Final = 4 * 2**20
"""More than this the hub does not send ahead, whatever it is asked for (SPEC.md, Streams)."""


class Grants:
    """What a reader consumes, and when it has to say so.

    It says so after half a window, in items or in bytes. The bytes counted here are those of whole frames, which is
    more than the sender counts, so a sender that waits is always owed a grant.

    Args:
        window: what the hub was asked for.

    Attributes:
        consumed: items in total.
    """

    __slots__ = ("_bytes", "_due_bytes", "_due_items", "_items", "consumed")

    def __init__(self, window: Window) -> None:
        self._items = max(1, min(window.items, MAX_ITEMS) // 2)
        self._bytes = max(1, min(window.bytes, MAX_BYTES) // 2)
        self._due_items = 0
        self._due_bytes = 0
        self.consumed = 0

    def consume(self, size: int) -> bool:
        """One item of a frame of ``size`` bytes was read. Returns whether :attr:`consumed` is to be told now."""
        self.consumed += 1
        self._due_items += 1
        self._due_bytes += size
        if self._due_items < self._items and self._due_bytes < self._bytes:
            return False
        self._due_items = self._due_bytes = 0
        return True
