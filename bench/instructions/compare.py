"""What two runs of the dialogue needed, side by side. Pure: numbers in, rows and words out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

WHOLE: Final = "all parts"
LEAST: Final = 1000.0
"""Below so many instructions a unit a process has nothing to do with a part."""


@dataclass(frozen=True, slots=True)
class Sample:
    """What was counted in one part of the dialogue.

    Attributes:
        part: its name.
        unit: what it has ``units`` of.
        seconds: how long it took.
        counts: by process and function.
    """

    part: str
    unit: str
    units: int
    seconds: float
    counts: Mapping[str, Mapping[str, int]]


@dataclass(frozen=True, slots=True)
class Row:
    """What one process needs for one unit of a part, before and after."""

    process: str
    part: str
    unit: str
    before: float
    after: float

    @property
    def change(self) -> float:
        """By which share it grew: 0.03 for three percent, negative where it fell."""
        return self.after / self.before - 1


@dataclass(frozen=True, slots=True)
class Growth:
    """A function that needs more than before, in the part where it grew most; numbers are for one unit of that."""

    process: str
    part: str
    function: str
    before: float
    after: float

    @property
    def by(self) -> float:
        """How much it grew."""
        return self.after - self.before


PerUnit = dict[tuple[str, str], dict[str, float]]
"""By process and part: what each function needs for one unit."""


def per_unit(samples: Sequence[Sample]) -> PerUnit:
    """Divide what was counted, less what the same seconds cost without any message.

    Args:
        samples: the first one is of the part without messages, and is left out of what is returned.
    """
    idle, *others = samples
    found: PerUnit = {}
    for sample in others:
        for process, counts in sample.counts.items():
            idle_counts = idle.counts[process]
            share = sample.seconds / idle.seconds
            found[process, sample.part] = {
                name: (counts.get(name, 0) - share * idle_counts.get(name, 0)) / sample.units
                for name in counts.keys() | idle_counts.keys()
            }
    return found


def smaller(first: PerUnit, second: PerUnit) -> PerUnit:
    """Of two runs of one commit the one that needed less, for each process and part: what disturbs mostly adds."""
    return {key: min(counts, second[key], key=lambda found: sum(found.values())) for key, counts in first.items()}


def rows(before: PerUnit, after: PerUnit, units: Mapping[str, str]) -> list[Row]:
    """Compare what whole processes need, part by part and, last of each process, one unit of every part together.

    Args:
        units: the name of a unit, by part.
    """
    found: list[Row] = []
    for process in dict.fromkeys(process for process, _part in before):
        ours = [
            Row(process, part, units[part], sum(counts.values()), sum(after[process, part].values()))
            for (of, part), counts in before.items()
            if of == process
        ]
        ours = [row for row in ours if max(row.before, row.after) >= LEAST]
        found += ours
        found.append(Row(process, WHOLE, "one of each", sum(r.before for r in ours), sum(r.after for r in ours)))
    return found


def above(found: Iterable[Row], limit: float) -> list[Row]:
    """Those that grew by more than this share."""
    return [row for row in found if row.change > limit]


def grown(before: PerUnit, after: PerUnit, where: Iterable[tuple[str, str]], least: float, wanted: int) -> list[Growth]:
    """The functions that grew most, in the order of how much.

    Args:
        where: the processes and parts that are looked at.
        least: by which share of all that the process needs for that part, or it is not told.
        wanted: at most so many of one process.
    """
    most: dict[tuple[str, str], Growth] = {}
    for process, part in where:
        counts, earlier = after[process, part], before[process, part]
        whole = sum(earlier.values())
        for function, number in counts.items():
            growth = Growth(process, part, function, earlier.get(function, 0.0), number)
            known = most.get((process, function))
            if growth.by > least * whole and (known is None or growth.by > known.by):
                most[process, function] = growth
    found: list[Growth] = []
    for process in dict.fromkeys(process for process, _function in most):
        ours = [growth for growth in most.values() if growth.process == process]
        found += sorted(ours, key=lambda growth: (-growth.by, growth.function))[:wanted]
    return found


def table(header: Sequence[str], lines: Iterable[Sequence[str]], left: int) -> list[str]:
    """Lay cells out in columns.

    Args:
        left: how many columns, the first ones, are text; the others are numbers, which end where their column ends.
    """
    cells = [list(header), *map(list, lines)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    aligned: list[Callable[[str, int], str]] = [
        str.ljust if index < left else str.rjust for index in range(len(header))
    ]  # fmt: skip
    return [
        "  ".join(align(cell, width) for align, cell, width in zip(aligned, line, widths, strict=True)).rstrip()
        for line in cells
    ]


def rows_table(found: Iterable[Row]) -> list[str]:
    """The table of processes and parts."""
    lines = [
        (row.process, row.part, row.unit, f"{row.before:,.0f}", f"{row.after:,.0f}", f"{100 * row.change:+.2f} %")
        for row in found
    ]
    return table(("process", "part", "instructions a", "before", "after", "change"), lines, 3)


def grown_table(found: Iterable[Growth], what: str) -> list[str]:
    """A table of functions."""
    lines = [
        (growth.process, growth.function, growth.part, f"{growth.before:,.1f}", f"{growth.after:,.1f}")
        for growth in found
    ]
    return table(("process", what, "most in", "before", "after"), lines, 3)
