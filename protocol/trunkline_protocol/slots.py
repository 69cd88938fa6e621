"""Routing keys hash over a fixed number of slots. Slots, not keys, are owned by executors and change hands. Pure."""

from __future__ import annotations

from typing import Final
from zlib import crc32

SLOTS: Final = 64


def slot_of(key: str) -> int:
    """The slot of a routing key. Stable across processes and versions (CRC-32 of the UTF-8)."""
    return crc32(key.encode()) % SLOTS
