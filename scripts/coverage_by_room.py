"""Prints how much of each room tests have run, lines and branches together, and holds it to ``coverage-floors.toml``.

``python -m scripts.coverage_by_room REPORT`` reads what ``coverage json`` wrote, and fails where a room is below the
floor that it has there; some have none. ``make coverage-unit`` does it all.
"""

from __future__ import annotations

import argparse
import sys
import tomllib
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

import msgspec

from scripts.sources import ROOT, modules, room_of

FLOORS: Final = ROOT / "coverage-floors.toml"


class Summary(msgspec.Struct):
    """What coverage counts in a file, or here in a room."""

    covered_lines: int = 0
    num_statements: int = 0
    covered_branches: int = 0
    num_branches: int = 0

    def add(self, other: Summary) -> None:
        """Count those of another file, too."""
        for name in self.__struct_fields__:
            setattr(self, name, getattr(self, name) + getattr(other, name))

    @property
    def percent(self) -> float:
        """Of lines and branches together. What has none of either is whole."""
        there = self.num_statements + self.num_branches
        return 100 * (self.covered_lines + self.covered_branches) / there if there else 100.0


class File(msgspec.Struct):
    """A file of coverage's report."""

    summary: Summary


class Report(msgspec.Struct):
    """``coverage json``, as far as it is read."""

    files: dict[str, File]


def by_room(report: Report) -> dict[str, Summary]:
    """Sums of each room, by its name."""
    rooms_of = {path.resolve(): room_of(module) for module, path in modules().items()}
    rooms: dict[str, Summary] = defaultdict(Summary)
    for name, file in report.files.items():
        rooms[rooms_of[(ROOT / name).resolve()]].add(file.summary)
    return dict(sorted(rooms.items()))


def complaints(rooms: Mapping[str, Summary], floors: Mapping[str, float]) -> list[str]:
    """What is below its floor, or has one and is gone, a sentence each."""
    found = [f"{room} has a floor, and is nowhere: delete its line" for room in floors.keys() - rooms.keys()]
    for room, floor in floors.items():
        if room in rooms and rooms[room].percent < floor:
            found.append(f"{room}: tests run {rooms[room].percent:.1f} % of it, and had run {floor} %: test what came")
    return sorted(found)


def lines(rooms: Mapping[str, Summary], floors: Mapping[str, float]) -> Iterable[str]:
    """A table: room, percentage, floor."""
    for room, summary in rooms.items():
        yield f"{room:<22} {summary.percent:5.1f} %  {floors.get(room, '-')}"


def main() -> None:
    """Print the table; exit with 1 where a room is below its floor."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("report", type=Path, help="what coverage json wrote")
    arguments = parser.parse_args()
    floors = tomllib.loads(FLOORS.read_text(encoding="utf-8"))["floors"]
    rooms = by_room(msgspec.json.decode(arguments.report.read_bytes(), type=Report))
    sys.stdout.writelines(f"{line}\n" for line in lines(rooms, floors))
    if below := complaints(rooms, floors):
        sys.exit("\n".join(below))


if __name__ == "__main__":
    main()
