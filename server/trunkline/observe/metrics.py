"""Counts and durations of calls, cheap enough for every call: plain numbers, rendered by whoever asks."""

from __future__ import annotations

from bisect import bisect_left
from typing import Final

from trunkline_protocol.errors import ERROR_TABLE
from trunkline_protocol.reports import MethodMetrics

BUCKETS: Final = (
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
)  # fmt: skip
"""Upper bounds of the histograms, in seconds."""

UNKNOWN_METHOD: Final = "(unknown)"
"""Calls of names nobody serves are counted under one label, so that peers cannot make labels."""

OTHER_METHODS: Final = "(other)"
"""What is served beyond :data:`MAX_METHODS` names: clients register names of their choice."""

MAX_METHODS: Final = 256
APPLICATION_ERROR: Final = 1
"""Stands for every code that is not of the table: methods may raise any integer."""


class Histogram:
    """Durations in seconds, in the buckets of :data:`BUCKETS` and one for what is longer."""

    __slots__ = ("buckets", "maximum", "total")

    def __init__(self) -> None:
        self.buckets = [0] * (len(BUCKETS) + 1)
        self.total = 0.0
        self.maximum = 0.0

    @property
    def count(self) -> int:
        """The number of durations."""
        return sum(self.buckets)

    def add(self, other: Histogram) -> None:
        """Add the durations of another histogram."""
        self.total += other.total
        self.maximum = max(self.maximum, other.maximum)
        self.buckets = [mine + theirs for mine, theirs in zip(self.buckets, other.buckets, strict=True)]

    def since(self, before: Histogram) -> Histogram:
        """The durations added after ``before``, an earlier state; their maximum is the bound of the last bucket."""
        later = Histogram()
        later.buckets = [now - then for now, then in zip(self.buckets, before.buckets, strict=True)]
        later.total = self.total - before.total
        last = max((index for index, number in enumerate(later.buckets) if number), default=-1)
        if last >= 0:
            later.maximum = min(self.maximum, BUCKETS[last]) if last < len(BUCKETS) else self.maximum
        return later

    def copy(self) -> Histogram:
        """A copy of the present state."""
        same = Histogram()
        same.buckets, same.total, same.maximum = self.buckets.copy(), self.total, self.maximum
        return same

    def quantile(self, fraction: float) -> float:
        """A quantile in seconds, interpolated inside its bucket (0 where there is nothing)."""
        rank = fraction * self.count
        seen = 0
        for index, number in enumerate(self.buckets):
            if number and seen + number >= rank:
                low = BUCKETS[index - 1] if index else 0.0
                high = BUCKETS[index] if index < len(BUCKETS) else self.maximum
                return min(self.maximum, low + (high - low) * (rank - seen) / number)
            seen += number
        return 0.0

    def milliseconds(self, prefix: str = "") -> dict[str, float]:
        """``p50_ms``, ``p95_ms`` and ``p99_ms``, each behind the prefix."""
        return {f"{prefix}p{q}_ms": round(1000 * self.quantile(q / 100), 3) for q in (50, 95, 99)}


class MethodStats:
    """One method's counts.

    Attributes:
        ok: calls that ended well.
        errors: the others by code, those outside the table under :data:`APPLICATION_ERROR`.
        duration: from receipt to outcome.
        wait: in the hub's queue, of calls that executors or callees serve.
        run: in the executor, from the moment it had a slot; with the time in which it waited for calls of its own.
        bytes_in: of params.
        bytes_out: of results and chunks.
    """

    __slots__ = ("bytes_in", "bytes_out", "duration", "errors", "ok", "run", "wait")

    def __init__(self) -> None:
        self.ok = 0
        self.errors: dict[int, int] = {}
        self.duration = Histogram()
        self.wait = Histogram()
        self.run = Histogram()
        self.bytes_in = 0
        self.bytes_out = 0

    @property
    def failed(self) -> int:
        """The number of calls that ended in an error."""
        return sum(self.errors.values())

    @property
    def count(self) -> int:
        """The number of finished calls."""
        return self.ok + self.failed

    def add(self, other: MethodStats) -> None:
        """Add the counts of another."""
        self.ok += other.ok
        for code, number in other.errors.items():
            self.errors[code] = self.errors.get(code, 0) + number
        self.duration.add(other.duration)
        self.wait.add(other.wait)
        self.run.add(other.run)
        self.bytes_in += other.bytes_in
        self.bytes_out += other.bytes_out

    def since(self, before: MethodStats) -> MethodStats:
        """The counts added after ``before``, an earlier state of the same counts."""
        later = MethodStats()
        later.ok = self.ok - before.ok
        errors = {code: number - before.errors.get(code, 0) for code, number in self.errors.items()}
        later.errors = {code: number for code, number in errors.items() if number}
        later.duration = self.duration.since(before.duration)
        later.wait = self.wait.since(before.wait)
        later.run = self.run.since(before.run)
        later.bytes_in = self.bytes_in - before.bytes_in
        later.bytes_out = self.bytes_out - before.bytes_out
        return later

    def copy(self) -> MethodStats:
        """A copy of the present counts."""
        same = MethodStats()
        same.ok, same.errors = self.ok, self.errors.copy()
        same.duration, same.wait, same.run = self.duration.copy(), self.wait.copy(), self.run.copy()
        same.bytes_in, same.bytes_out = self.bytes_in, self.bytes_out
        return same

    def report(self) -> MethodMetrics:
        """The counts for ``metrics.get``, with durations in milliseconds."""
        count = self.count
        return MethodMetrics(
            count=count,
            success=self.ok,
            errors={error_name(code): number for code, number in self.errors.items()},
            mean_ms=round(1000 * self.duration.total / max(1, count), 3),
            **self.duration.milliseconds(),
            max_ms=round(1000 * self.duration.maximum, 3),
            **self.wait.milliseconds("wait_"),
            **self.run.milliseconds("run_"),
            bytes_in=self.bytes_in,
            bytes_out=self.bytes_out,
        )


class CallStats:
    """Counts by method. :meth:`record` is on the path of every call."""

    __slots__ = ("methods",)

    def __init__(self) -> None:
        self.methods: dict[str, MethodStats] = {}

    def record(
        self,
        method: str | None,
        seconds: float,
        code: int,
        waited: float = 0.0,
        ran: float = 0.0,
        bytes_in: int = 0,
        bytes_out: int = 0,
    ) -> None:
        """Count a call that has ended.

        Args:
            method: None where nobody serves it.
            seconds: from receipt to outcome.
            code: 0 for success.
            waited: of that in the queue.
            ran: of that in an executor; 0 where it got to none.
        """
        # Written out: each call of a function would cost as much as what it does (bench/metrics.py).
        try:
            stats = self.methods[method]  # type: ignore[index]  # None is no key, and is not found
        except KeyError:
            stats = self._first(method)
        if code:
            code = code if code in ERROR_TABLE else APPLICATION_ERROR
            stats.errors[code] = stats.errors.get(code, 0) + 1
        else:
            stats.ok += 1
        times = stats.duration
        times.total += seconds
        if seconds > times.maximum:
            times.maximum = seconds
        times.buckets[bisect_left(BUCKETS, seconds)] += 1
        if ran:
            times = stats.run
            times.total += ran
            if ran > times.maximum:
                times.maximum = ran
            times.buckets[bisect_left(BUCKETS, ran)] += 1
        if waited:
            times = stats.wait
            times.total += waited
            if waited > times.maximum:
                times.maximum = waited
            times.buckets[bisect_left(BUCKETS, waited)] += 1
        elif ran:
            stats.wait.buckets[0] += 1
        stats.bytes_in += bytes_in
        stats.bytes_out += bytes_out

    def _first(self, method: str | None) -> MethodStats:
        """The counts of a method that has none yet, or those that it shares."""
        name = UNKNOWN_METHOD if method is None else method
        if name != UNKNOWN_METHOD and len(self.methods) >= MAX_METHODS:
            name = OTHER_METHODS
        return self.methods.setdefault(name, MethodStats())

    def sum(self) -> MethodStats:
        """The counts of all methods together."""
        return total_of(self.methods)

    def totals(self) -> tuple[int, int]:
        """The numbers of finished and of failed calls."""
        count = errors = 0
        for stats in self.methods.values():
            failed = stats.failed
            count += stats.ok + failed
            errors += failed
        return count, errors


def total_of(methods: dict[str, MethodStats]) -> MethodStats:
    """The counts of several methods, added up."""
    total = MethodStats()
    for stats in methods.values():
        total.add(stats)
    return total


def reports_of(methods: dict[str, MethodStats]) -> dict[str, MethodMetrics]:
    """The counts by method, sorted by name."""
    return {name: stats.report() for name, stats in sorted(methods.items())}


def error_name(code: int) -> str:
    """A code's name, from the bounded set of the table."""
    row = ERROR_TABLE.get(code)
    return "APPLICATION_ERROR" if row is None else row.name
