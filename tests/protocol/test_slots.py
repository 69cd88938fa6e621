from __future__ import annotations

from collections import Counter

from trunkline_protocol.slots import SLOTS, slot_of


def test_slots_are_stable_across_processes_and_versions() -> None:
    assert [slot_of(key) for key in ("", "docs", "日本", "python-reference")] == [0, 55, 12, 56]


def test_keys_spread_over_slots() -> None:
    used = Counter(slot_of(f"collection-{number}") for number in range(2000))
    assert len(used) == SLOTS
    assert max(used.values()) < 4 * 2000 / SLOTS
