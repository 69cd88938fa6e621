"""Reads what the Autobahn suite wrote down, and judges it.

``index.json`` is ``{agent: {case: {behavior, behaviorClose, ...}}}``. The suite itself exits with 0 whatever it found.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

EXPECTED_CASES: Final = {"1": 16, "2": 11, "3": 7, "4": 10, "5": 20, "6": 145, "7": 37, "9": 54, "10": 1}
"""How many cases autobahntestsuite 0.8.2 has in each group that is run: fewer in a report means it did not run."""

GOOD: Final = frozenset({"OK", "NON-STRICT", "INFORMATIONAL"})
GOOD_CLOSE: Final = frozenset({"OK", "INFORMATIONAL"})
COLUMNS: Final = ("OK", "NON-STRICT", "INFORMATIONAL", "FAILED")


@dataclass(frozen=True, slots=True)
class Case:
    """The verdict on one case, for example ``6.4.1``."""

    name: str
    behavior: str
    close: str

    @property
    def group(self) -> str:
        return self.name.partition(".")[0]

    @property
    def failed(self) -> bool:
        return self.behavior not in GOOD

    @property
    def wrong_close(self) -> bool:
        return self.close not in GOOD_CLOSE


def read_report(path: Path) -> list[Case]:
    """The cases of an ``index.json``, in the order of their numbers.

    Raises:
        ValueError: there is not exactly one agent in it.
    """
    agents = json.loads(path.read_text())
    if len(agents) != 1:
        raise ValueError(f"{path}: the report of one server is expected, it has {sorted(agents)}")
    (cases,) = agents.values()
    found = [Case(name, case["behavior"], case["behaviorClose"]) for name, case in cases.items()]
    return sorted(found, key=lambda case: [int(part) for part in case.name.split(".")])


def faults(cases: list[Case], expected: Mapping[str, int] = EXPECTED_CASES) -> list[str]:
    """Why the report is not good enough, a line each; empty if it is."""
    counts = Counter(case.group for case in cases)
    missing = [
        f"group {group}: {counts[group]} of {count} cases were run"
        for group, count in expected.items()
        if counts[group] != count
    ]
    failed = [f"{case.name}: {case.behavior}" for case in cases if case.failed]
    return missing + failed + [f"{case.name}: close {case.close}" for case in cases if case.wrong_close]


def table(cases: list[Case]) -> str:
    """Counts by group and behaviour, and the names of the cases that are not OK."""
    groups = sorted({case.group for case in cases}, key=int)
    rows = [["group", *COLUMNS, "wrong close"]]
    rows += [_row(group, [case for case in cases if case.group == group]) for group in groups]
    rows.append(_row("all", cases))
    lines = ["  ".join(cell.rjust(13) for cell in row) for row in rows]
    notable = [f"{case.name} {case.behavior}" for case in cases if case.behavior != "OK"]
    return "\n".join([*lines, "not OK: " + (", ".join(notable) or "none")])


def _row(label: str, cases: list[Case]) -> list[str]:
    behaviors = Counter("FAILED" if case.failed else case.behavior for case in cases)
    wrong = sum(case.wrong_close for case in cases)
    return [label, *(str(behaviors[column]) for column in COLUMNS), str(wrong)]
