"""What the runs of some seeds have met: which fault hit operations in which state, and how they ended."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from tests.faults.recorder import summary
from tests.simulation.run import Met, Outcome


@dataclass
class Coverage:
    """Sums over runs.

    Attributes:
        operations: the least of a run.
        faults: the least of a run.
        met: how often which fault met which state of an operation.
        ends: of operations, by kind and end.
    """

    runs: int = 0
    operations: int = 1 << 30
    faults: int = 1 << 30
    met: Met = field(default_factory=Counter)
    ends: Counter[tuple[str, str]] = field(default_factory=Counter)
    struck: Counter[str] = field(default_factory=Counter)

    def add(self, outcome: Outcome) -> None:
        """Count one run."""
        faults = summary.faults(outcome.record)
        self.runs += 1
        self.faults = min(self.faults, faults.total())
        self.operations = min(self.operations, len(outcome.record.operations) - faults.total())
        self.struck += faults
        self.met += outcome.met
        for what, ends in summary.outcomes(outcome.record).items():
            self.ends.update({(what, end): number for end, number in ends.items()})

    def described(self) -> str:
        """Tables for people."""
        faults = sorted({fault for fault, _ in self.met})
        states = sorted({state for _, state in self.met})
        rows = [
            [f"{kind}, {place}", *(str(self.met[fault, (kind, place)]) for fault in faults)] for kind, place in states
        ]
        times = [["(times)", *(str(self.struck[fault]) for fault in faults)]]
        whats = sorted({what for what, _ in self.ends})
        ends = [[what, *(str(self.ends[what, end]) for end in ("ok", "fail", "info"))] for what in whats]
        return "\n".join(
            [
                *_table([["", *(fault.replace("executor", "exec") for fault in faults)], *times, *rows]),
                "",
                *_table([["", "ok", "fail", "info"], *ends]),
            ]
        )


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) + 2 for column in range(len(rows[0]))]
    return [
        row[0].ljust(widths[0]) + "".join(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))
        for row in rows
    ]
