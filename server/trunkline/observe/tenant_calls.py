"""Counts of calls by tenant: for ``/metrics``, for what a customer is told of its own calls, and for breakers.

Nothing is counted, and nothing costs, as long as there is no tenant but ``default``. From then on each call is counted
here beside the counts of all together; what came before was ``default``'s.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from trunkline.observe.metrics import OTHER_METHODS, UNKNOWN_METHOD, CallStats, MethodStats, total_of
from trunkline.observe.page import Reading
from trunkline_protocol.calls import Call
from trunkline_protocol.errors import ErrorCode
from trunkline_protocol.principals import DEFAULT_TENANT
from trunkline_protocol.reports import TenantMetrics
from trunkline_protocol.tenants import BETWEEN, name_in

OTHER_TENANTS: Final = "(other)"
"""Stands for those that have no label of their own. A tenant of this name is counted with them."""

MAX_TENANTS: Final = 256
"""Tenants whose calls are counted by method, so that they can be told of them."""

MAX_METHODS: Final = 64
"""Methods of one of them, some 2 KB each; further ones are counted as ``(other)``."""

RANKED_SECONDS: Final = 60.0
REFUSALS: Final = frozenset({ErrorCode.WORKER_OVERLOADED, ErrorCode.RESOURCE_EXHAUSTED, ErrorCode.RATE_LIMITED})
"""Errors of calls that a limit refuses."""


class TenantSums:
    """What the calls of a tenant, or of several, come to; ``executor_seconds`` they ran."""

    __slots__ = ("bytes_in", "bytes_out", "calls", "executor_seconds", "failed", "refused", "seconds")

    def __init__(self) -> None:
        self.calls = self.failed = self.refused = self.bytes_in = self.bytes_out = 0
        self.seconds = self.executor_seconds = 0.0


READINGS: Final[tuple[tuple[str, str, Callable[[TenantSums], float]], ...]] = (
    ("calls", "Finished calls, those that methods made included", lambda sums: sums.calls),
    ("failed_calls", "Of those, the ones that ended in an error", lambda sums: sums.failed),
    ("refused_calls", "Of those, the ones that a limit refused (2002, 2003, 6003)", lambda sums: sums.refused),
    ("call_seconds", "Time from the receipt of calls to their outcomes", lambda sums: sums.seconds),
    ("executor_seconds", "Time that calls ran in executors", lambda sums: sums.executor_seconds),
    ("params_bytes", "Bytes of params of calls", lambda sums: sums.bytes_in),
    ("result_bytes", "Bytes of results and chunks", lambda sums: sums.bytes_out),
)


class TenantCalls:
    """Counts the calls of tenants.

    Args:
        labels: how many tenants have a label of their own on ``/metrics``: those that call most; setting
            ``metrics_tenants``. It may be changed.

    Attributes:
        stats: by tenant and method: the names of both, with :data:`trunkline_protocol.tenants.BETWEEN` between.
        is_on: whether anything is counted.
    """

    def __init__(self, labels: int) -> None:
        self.labels = labels
        self.stats = CallStats()
        self._methods: dict[str, set[str]] = {}
        self.is_on = False
        self._sums: dict[str, TenantSums] = {}
        self._others = TenantSums()
        self._calls: Counter[str] = Counter()
        self._ranked_at = 0.0
        self._ended: dict[str, dict[str, tuple[int, int]]] = {}

    def begin(self, so_far: CallStats) -> None:
        """Count from now on; the calls so far were those of ``default``."""
        self.is_on = True
        for key, stats in so_far.methods.items():
            pair = self._pair(DEFAULT_TENANT, name_in(key))
            assert pair is not None
            self.stats.methods.setdefault(pair, MethodStats()).add(stats)
        _add(self._first(DEFAULT_TENANT), so_far.methods)

    def count(self, call: Call, method: str | None, seconds: float, code: int, failures: Iterable[int]) -> None:
        """Count a call that has ended, as :meth:`CallStats.record` does.

        Args:
            method: its key; None where nobody serves it.
            failures: the codes that are failures of the method, for its breaker.
        """
        tenant, ran, size = call.tenant, call.ran, len(call.params)
        pair = self._pair(tenant, UNKNOWN_METHOD if method is None else name_in(method))
        if pair is not None:
            self.stats.record(pair, seconds, code, call.waited, ran, size, call.bytes_out)
        sums = self._sums.get(tenant) or self._first(tenant)
        sums.calls += 1
        sums.failed += code != 0
        sums.refused += code in REFUSALS
        sums.seconds += seconds
        sums.executor_seconds += ran
        sums.bytes_in += size
        sums.bytes_out += call.bytes_out
        self._calls[tenant] += 1
        if method is not None and BETWEEN not in method:
            tenants = self._ended.setdefault(method, {})
            calls, failed = tenants.get(tenant, (0, 0))
            tenants[tenant] = calls + 1, failed + (code in failures)

    def counts(self, tenant: str) -> bool:
        """Whether a tenant's calls are counted by method: of the first :data:`MAX_TENANTS` that make any."""
        return tenant in self._methods or len(self._methods) < MAX_TENANTS

    def _pair(self, tenant: str, name: str) -> str | None:
        """The key of a tenant's method in :attr:`stats`, or of what it shares with others; None for no key."""
        names = self._methods.get(tenant)
        if names is None:
            if not self.counts(tenant):
                return None
            names = self._methods[tenant] = set()
        if name not in names:
            if len(names) >= MAX_METHODS:
                name = OTHER_METHODS
            names.add(name)
            self.stats.methods.setdefault(key := f"{tenant}{BETWEEN}{name}", MethodStats())
            return key
        return f"{tenant}{BETWEEN}{name}"

    def _first(self, tenant: str) -> TenantSums:
        if len(self._sums) >= self.labels or tenant == OTHER_TENANTS:
            return self._others
        return self._sums.setdefault(tenant, TenantSums())

    def ended(self) -> dict[str, dict[str, tuple[int, int]]]:
        """Calls and failures since the last call of this: of each method that all have in common, by tenant."""
        ended, self._ended = self._ended, {}
        return ended

    def rank(self, now: float) -> None:
        """Give the labels to those that called most within a minute. To be called about once a second.

        Who loses its label is counted with the others from then on, and begins at zero where it gets one again: so each
        series only grows, or ends.
        """
        if now < self._ranked_at + RANKED_SECONDS:
            return
        most = [tenant for tenant, _ in self._calls.most_common(self.labels + 1) if tenant != OTHER_TENANTS]
        for tenant in most[: self.labels]:
            if tenant not in self._sums:
                if len(self._sums) >= self.labels:
                    del self._sums[min(self._sums, key=lambda each: self._calls[each])]
                self._sums[tenant] = TenantSums()
        while len(self._sums) > self.labels:
            del self._sums[min(self._sums, key=lambda each: self._calls[each])]
        self._calls.clear()
        self._ranked_at = now

    def forget(self, tenant: str) -> None:
        """Forget a tenant that is deleted."""
        self._sums.pop(tenant, None)
        self._calls.pop(tenant, None)
        for name in self._methods.pop(tenant, ()):
            del self.stats.methods[f"{tenant}{BETWEEN}{name}"]

    def readings(self) -> Iterator[Reading]:
        """The metrics by tenant, of a bounded number of them."""
        if self.is_on:
            sums = self._sums | {OTHER_TENANTS: self._others}
            for name, words, value in READINGS:
                values = {tenant: value(each) for tenant, each in sums.items()}
                yield Reading(f"trunkline_tenant_{name}", f"{words}, by tenant", "counter", values, "tenant")


def _add(sums: TenantSums, methods: dict[str, MethodStats]) -> None:
    total = total_of(methods)
    sums.calls += total.count
    sums.failed += total.failed
    sums.refused += sum(number for code, number in total.errors.items() if code in REFUSALS)
    sums.seconds += total.duration.total
    sums.executor_seconds += total.run.total
    sums.bytes_in += total.bytes_in
    sums.bytes_out += total.bytes_out


def report_of(methods: Iterable[MethodStats]) -> TenantMetrics:
    """What a tenant's calls come to, for ``metrics.get``."""
    sums = TenantSums()
    _add(sums, {str(place): stats for place, stats in enumerate(methods)})
    return TenantMetrics(
        count=sums.calls,
        failed=sums.failed,
        refused=sums.refused,
        seconds=round(sums.seconds, 3),
        executor_seconds=round(sums.executor_seconds, 3),
        bytes_in=sums.bytes_in,
        bytes_out=sums.bytes_out,
    )
