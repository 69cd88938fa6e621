"""Judges a history, offline: which rules are broken, by which operations, and the lines that show it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final

import msgspec

from tests.faults.recorder import call_rules, event_rules
from tests.faults.recorder.history import read_history, read_ledger
from tests.faults.recorder.operations import Record, Violation

LEDGER: Final = "ledger.jsonl"
HISTORY: Final = "history"
"""Names in the folder of a run."""

SHOWN_LINES: Final = 12
SHOWN_CHARS: Final = 400

RULES: Final[tuple[Callable[[Record], Iterator[Violation]], ...]] = (
    call_rules.one_outcome,
    call_rules.explained,
    call_rules.at_most_once,
    call_rules.keyed_once,
    call_rules.ok_executed,
    call_rules.fail_not_executed,
    call_rules.executed_for_somebody,
    call_rules.right_result,
    call_rules.stream_whole,
    call_rules.sessions_hold,
    event_rules.event_order_and_once,
    event_rules.event_delivered,
    event_rules.event_data,
    event_rules.publish_once,
    event_rules.publish_order,
)


def check(record: Record) -> list[Violation]:
    """All violations of all rules."""
    return [violation for rule in RULES for violation in rule(record)]


def read_record(folder: Path) -> Record:
    """What a run left in its folder.

    Raises:
        BadLine: a line that cannot be read.
    """
    return Record(read_history(folder / HISTORY), read_ledger(folder / LEDGER))


def described(violations: Iterable[Violation], shown: int = 20) -> str:
    """For people: what is broken, and the lines that show it."""
    found = list(violations)
    parts = [_described(violation) for violation in found[:shown]]
    if len(found) > shown:
        parts.append(f"... and {len(found) - shown} more")
    return "\n".join(parts)


def _described(violation: Violation) -> str:
    lines = [f"    {msgspec.json.encode(line).decode():.{SHOWN_CHARS}}" for line in violation.lines]
    if len(lines) > SHOWN_LINES:
        half = SHOWN_LINES // 2
        lines[half:-half] = [f"    ... {len(lines) - SHOWN_LINES} lines ..."]
    return "\n".join([f"{violation.rule} {' '.join(violation.ops)}: {violation.words}", *lines])
