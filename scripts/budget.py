"""Holds each room to its lines in ``budget.toml``, and says what it consists of.

``python -m scripts.budget`` fails where a room is over its budget, is not in the file, or stands there and is gone.
Raising a number is a commit of its own, which says what was deleted first.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tomllib
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from scripts.sources import ROOT, functions, modules, room_of

BUDGET: Final = ROOT / "budget.toml"
DELETE_FIRST: Final = "delete something first, or raise the number in a commit of its own that says why"


@dataclass
class Size:
    """What a room consists of.

    Attributes:
        functions: lines of each.
    """

    files: int = 0
    lines: int = 0
    functions: list[int] = field(default_factory=list)

    def add(self, path: Path) -> None:
        """Count one file."""
        self.files += 1
        self.lines += len(path.read_text(encoding="utf-8").splitlines())
        self.functions += [lines for _, lines in functions(path)]


def sizes() -> dict[str, Size]:
    """Every room's size, by its name."""
    rooms: dict[str, Size] = defaultdict(Size)
    for module, path in modules().items():
        rooms[room_of(module)].add(path)
    return dict(sorted(rooms.items()))


def complaints(sizes: Mapping[str, Size], budget: Mapping[str, int]) -> list[str]:
    """What does not fit, a sentence each."""
    found = [f"{room} is in the budget, and nowhere else: delete its line" for room in budget.keys() - sizes.keys()]
    for room, size in sizes.items():
        if room not in budget:
            found.append(f"{room} has no budget: give it one, and say in the commit what it pays with")
        elif size.lines > budget[room]:
            found.append(f"{room} has {size.lines} lines of the {budget[room]} it may have: {DELETE_FIRST}")
    return sorted(found)


def table(sizes: Mapping[str, Size], budget: Mapping[str, int]) -> str:
    """Room by room: files, lines, budget, and how long functions are."""
    rows = [f"{'room':<20} {'files':>5} {'lines':>7} {'budget':>7}   functions: median  p90  max"]
    everything = Size()
    for room, size in sizes.items():
        rows.append(_row(room, size, budget.get(room, 0)))
        everything.files += size.files
        everything.lines += size.lines
        everything.functions += size.functions
    return "\n".join([*rows, _row("all", everything, sum(budget.values()))])


def _row(room: str, size: Size, budget: int) -> str:
    lines = sorted(size.functions) or [0]
    median, p90 = statistics.median(lines), lines[int(len(lines) * 0.9)]
    return (
        f"{room:<20} {size.files:>5} {size.lines:>7} {budget:>7}   {len(size.functions):>9} "
        f"{median:>7g} {p90:>4} {lines[-1]:>4}"
    )


def main() -> int:
    """0 where everything fits."""
    parser = argparse.ArgumentParser(description="Hold each room to its lines in budget.toml.")
    parser.add_argument("--table", action="store_true", help="show all rooms, too")
    wanted = parser.parse_args()
    budget = tomllib.loads(BUDGET.read_text(encoding="utf-8"))["lines"]
    measured = sizes()
    if wanted.table:
        print(table(measured, budget))
    found = complaints(measured, budget)
    for complaint in found:
        print(f"budget.toml: {complaint}", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
