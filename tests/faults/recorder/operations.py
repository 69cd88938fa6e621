"""A history, put together: operations with their lines, and what was executed under which name."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, TypeVar

from tests.faults.recorder.history import TERMINAL, Execution, Line, What

SHORT_SESSIONS = "short_sessions"
"""A fault of the whole run: sessions may expire between two connections."""

Key = TypeVar("Key")
Value = TypeVar("Value")

HUB_ENDS = frozenset({"hub_kill", "hub_stop"})
"""Faults that end a hub's life."""

Rule = Literal[
    "one-outcome", "explained", "at-most-once", "keyed-once", "ok-executed", "fail-not-executed",
    "executed-for-somebody", "right-result", "stream-whole", "sessions-hold",
    "event-order", "event-once", "event-delivered", "event-data", "publish-once", "publish-order",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Violation:
    """A rule is broken.

    Attributes:
        rule: its name.
        ops: the operations concerned.
        words: what is wrong.
        lines: those that show it.
    """

    rule: Rule
    ops: tuple[str, ...]
    words: str
    lines: tuple[Line | Execution, ...] = ()


@dataclass(slots=True)
class Operation:
    """All lines of one operation. A sound one has one ``invoke`` and one end."""

    op: str
    invokes: list[Line] = field(default_factory=list)
    ends: list[Line] = field(default_factory=list)
    seen: list[Line] = field(default_factory=list)

    @property
    def invoke(self) -> Line:
        return self.invokes[0]

    @property
    def end(self) -> Line:
        return self.ends[0]

    @property
    def is_sound(self) -> bool:
        """Whether other rules can say something of it."""
        return len(self.invokes) == len(self.ends) == 1

    @property
    def lines(self) -> tuple[Line, ...]:
        return (*self.invokes, *self.seen, *self.ends)


@dataclass(frozen=True)
class Record:
    """What a run left behind: histories and ledger."""

    lines: list[Line]
    ledger: list[Execution]

    @cached_property
    def operations(self) -> dict[str, Operation]:
        """By name, in order of their first line."""
        found: dict[str, Operation] = {}
        for line in self.lines:
            if line.kind == "state":
                continue
            operation = found.setdefault(line.op, Operation(line.op))
            own = (
                operation.invokes
                if line.kind == "invoke"
                else operation.ends
                if line.kind in TERMINAL
                else operation.seen
            )
            own.append(line)
        return found

    @cached_property
    def states(self) -> list[Line]:
        return [line for line in self.lines if line.kind == "state"]

    @cached_property
    def executions(self) -> dict[str, list[Execution]]:
        """By the name of the work."""
        return grouped((execution.work, execution) for execution in self.ledger)

    def sound(self, *whats: What) -> Iterator[Operation]:
        """Operations of these sorts with one beginning and one end; the others are reported by a rule of their own."""
        return (each for each in self.operations.values() if each.is_sound and each.invoke.what in whats)

    def by_work(self, *whats: What) -> dict[str, list[Operation]]:
        """Sound operations that ask for the same work: one, or those of an idempotency key."""
        named = ((each.invoke.work, each) for each in self.sound(*whats))
        return grouped((work, each) for work, each in named if work is not None)

    @cached_property
    def sessions_expire(self) -> bool:
        """Whether a session may end though its hub lives."""
        return any(each.invokes and each.invoke.method == SHORT_SESSIONS for each in self.operations.values())

    @cached_property
    def hub_end_times(self) -> list[float]:
        """When the hub was stopped or killed."""
        begun = (each.invoke for each in self.operations.values() if each.invokes)
        return [line.time for line in begun if line.method in HUB_ENDS]


def grouped(pairs: Iterable[tuple[Key, Value]]) -> dict[Key, list[Value]]:
    """Values by their key, in order."""
    found: dict[Key, list[Value]] = defaultdict(list)
    for key, value in pairs:
        found[key].append(value)
    return dict(found)
