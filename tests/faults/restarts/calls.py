"""What callers do and write down: numbered calls in turn of four methods, a line for the outcome of each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

METHODS: Final = {"hub.once": False, "hub.again": True, "service.work": False, "service.again": True}
"""Of the hub's executors and of the service, each with whether it is idempotent; call ``n`` is of method ``n % 4``."""


@dataclass(frozen=True, slots=True)
class Ended:
    """The outcome of a call.

    Attributes:
        n: its number, of one caller or another.
        method: a name of :data:`METHODS`.
        error: kind and code of what it failed with, "wrong" for another result than it has, "" if it went well.
        maybe_executed: what the error says of it.
        seconds: how long the caller waited for it.
    """

    n: int
    method: str
    error: str
    maybe_executed: bool
    seconds: float


@dataclass(slots=True)
class Verdict:
    """What came of all calls. All but ``failed`` have to be empty or 0; ``failed`` only has what was not safe to keep.

    Attributes:
        calls: how many ended.
        failed: how many with which error, by method.
        lost_safe: those that failed although they did not run, or might have run again.
        without_outcome: numbers of calls that never ended.
        ended_twice: numbers of calls that ended more than once.
        executed_twice: numbers of calls that ran more than once, and were not to.
        not_executed: numbers of calls that gave a result, and ran not once.
        denied: numbers of calls that ran, of which the error says that they did not.
        slowest_seconds: how long one caller waited at most.
    """

    calls: int = 0
    failed: dict[str, int] = field(default_factory=dict)
    lost_safe: list[str] = field(default_factory=list)
    without_outcome: list[int] = field(default_factory=list)
    ended_twice: list[int] = field(default_factory=list)
    executed_twice: list[int] = field(default_factory=list)
    not_executed: list[int] = field(default_factory=list)
    denied: list[int] = field(default_factory=list)
    slowest_seconds: float = 0.0

    @property
    def faults(self) -> dict[str, list[int] | list[str]]:
        """What is not as it has to be; empty if all is well."""
        found: dict[str, list[int] | list[str]] = {
            "lost_safe": self.lost_safe,
            "without_outcome": self.without_outcome,
            "ended_twice": self.ended_twice,
            "executed_twice": self.executed_twice,
            "not_executed": self.not_executed,
            "denied": self.denied,
        }
        return {name: numbers for name, numbers in found.items() if numbers}


def judge(numbers: Iterable[int], ended: Iterable[Ended], executed: Mapping[int, int]) -> Verdict:
    """Hold outcomes against what ran.

    Args:
        numbers: of all calls that were to be made.
        executed: how often each call began to run.
    """
    outcomes = list(ended)
    often = Counter(each.n for each in outcomes)
    failed = [each for each in outcomes if each.error]
    return Verdict(
        calls=len(outcomes),
        failed=dict(Counter(f"{each.method} {each.error}" for each in failed)),
        lost_safe=[
            f"{each.n}: {each.method} {each.error}"
            for each in failed
            if METHODS[each.method] or not each.maybe_executed
        ],
        without_outcome=[n for n in numbers if n not in often],
        ended_twice=[n for n, times in often.items() if times > 1],
        executed_twice=[each.n for each in outcomes if not METHODS[each.method] and executed.get(each.n, 0) > 1],
        not_executed=[each.n for each in outcomes if not each.error and not executed.get(each.n)],
        denied=[each.n for each in failed if not each.maybe_executed and executed.get(each.n)],
        slowest_seconds=round(max((each.seconds for each in outcomes), default=0.0), 2),
    )
