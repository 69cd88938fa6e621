"""Circuit breakers by method: one whose calls mostly fail is not tried for a while. Pure: the clock is an argument.

==========  =====================================================================================
state       calls of the method
==========  =====================================================================================
closed      go through. Nothing is done for a call: counts are looked at once a second
open        are refused at once, 1001 with ``retry_after_ms`` and ``data.breaker``, until a time
half open   so many go through as probes; the others are refused. One that fails opens the breaker
            again, for twice as long; when all have succeeded it is closed
==========  =====================================================================================

Where there are several tenants each has a breaker of its own for a method that all have in common: what one sends may
make it fail, and is no reason to refuse it to the others. The method's breaker for all opens where it fails too often
whichever one of the tenants is left out.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, Protocol

from trunkline import defaults
from trunkline.hub import outliers
from trunkline.hub.outliers import OF_THE_CALL
from trunkline_protocol.calls import Call
from trunkline_protocol.errors import ErrorCode, RpcError
from trunkline_protocol.tenants import BETWEEN, tenant_and_name

_NOT_OF_THE_METHOD: Final = {
    ErrorCode.METHOD_NOT_FOUND,
    ErrorCode.WORKER_OVERLOADED,
    ErrorCode.WORKER_UNAVAILABLE,
}
FAILURES: Final = outliers.FAILURES - _NOT_OF_THE_METHOD | {ErrorCode.PIPELINE_EXECUTION_ERROR}
"""Errors that count as failures of the method: not those of the caller, of a full queue, or of the method's own."""

NO_ANSWER: Final = OF_THE_CALL | {ErrorCode.WORKER_UNAVAILABLE, ErrorCode.WORKER_OVERLOADED}
"""Errors of a probe that say nothing of the method: another one is let through."""

MAX_OPEN_SECONDS: Final = 300.0
PROBE_AGAIN_MS: Final = 1000
"""The hint of a refusal while probes are running."""

State = Literal["open", "half_open"]
Counts = Mapping[str, tuple[int, int]]
"""Of each method, how many calls ended, and how many of them failed."""

Parts = Mapping[str, Counts]
"""The same of each method that several tenants have in common, by tenant."""

_NO_PARTS: Final[Parts] = {}


class BreakerSettings(Protocol):
    """The settings of the hub that concern breakers."""

    breaker_ratio: float
    breaker_window: float
    breaker_calls: int
    breaker_seconds: float
    breaker_probes: int


@dataclass(frozen=True, slots=True)
class BreakerLimits:
    """The settings ``breaker_*``.

    Attributes:
        ratio: of failures from which on a breaker opens; 0 for no breakers.
        window: seconds over which it is counted.
        calls: that have to have ended within them.
        seconds: that it is open, the first time.
        probes: calls that have to succeed.
    """

    ratio: float = defaults.BREAKER_RATIO
    window: float = defaults.BREAKER_WINDOW
    calls: int = defaults.BREAKER_CALLS
    seconds: float = defaults.BREAKER_SECONDS
    probes: int = defaults.BREAKER_PROBES

    @classmethod
    def of(cls, settings: BreakerSettings) -> BreakerLimits:
        """The limits that the settings give."""
        return cls(
            settings.breaker_ratio,
            settings.breaker_window,
            settings.breaker_calls,
            settings.breaker_seconds,
            settings.breaker_probes,
        )


class Breaker:
    """A breaker that is not closed.

    Attributes:
        why: what was counted, in words.
    """

    __slots__ = ("_limits", "_probes", "_seconds", "_succeeded", "_until", "why")

    def __init__(self, limits: BreakerLimits, why: str, now: float) -> None:
        self._limits = limits
        self.why = why
        self._seconds = limits.seconds
        self._open(now)

    def _open(self, now: float) -> None:
        self._until = now + self._seconds
        self._probes: set[Call] = set()
        self._succeeded = 0

    def state(self, now: float) -> State:
        """Open or half open."""
        return "open" if now < self._until else "half_open"

    def is_forgotten(self, now: float) -> bool:
        """Whether nobody has tried the method for so long that what was counted says nothing any more."""
        return not self._probes and now > self._until + MAX_OPEN_SECONDS

    def admit(self, call: Call, now: float) -> None:
        """Let a call through as a probe.

        Raises:
            RpcError: 1001; it was not executed.
        """
        state = self.state(now)
        if state == "half_open" and len(self._probes) + self._succeeded < self._limits.probes:
            self._probes.add(call)
            return
        raise RpcError(
            ErrorCode.WORKER_UNAVAILABLE,
            f"{call.method} is not tried for now: {self.why}",
            retry_after_ms=max(1, round(1000 * (self._until - now))) if state == "open" else PROBE_AGAIN_MS,
            data={"breaker": state},
        )

    def ended(self, call: Call, code: int, now: float) -> bool:
        """Count a call that has ended; returns whether that closes the breaker."""
        if call not in self._probes:
            return False
        self._probes.discard(call)
        if code in FAILURES:
            self._seconds = min(MAX_OPEN_SECONDS, 2 * self._seconds)
            self._open(now)
        elif code not in NO_ANSWER:
            self._succeeded += 1
        return self._succeeded >= self._limits.probes


class Breakers:
    """The breakers of all methods.

    Attributes:
        limits: may be replaced.
        tripped: those that are not closed, by the key of the method, with the tenant in front (``default``, too) where
            it is one tenant's; always the same dictionary.
        opened: how often one was opened by its counts.
    """

    def __init__(self, limits: BreakerLimits) -> None:
        self.limits = limits
        self.tripped: dict[str, Breaker] = {}
        self.opened = 0
        self._window: deque[tuple[float, dict[str, tuple[int, int]], dict[str, Counts]]] = deque()
        self._probing: dict[Call, list[str]] = {}

    def look(self, now: float, counts: Counts, parts: Parts = _NO_PARTS) -> None:
        """Open the breakers of methods that fail too often. To be called about once a second.

        Args:
            counts: since the last call of this; methods without calls may be left out.
            parts: those of them that are of methods that all tenants have in common, where there are several tenants.
        """
        limits = self.limits
        if not limits.ratio:
            self._window.clear()
            self.tripped.clear()
            self._probing.clear()
            return
        self._window.append((now, dict(counts), dict(parts)))
        while self._window[0][0] < now - limits.window:
            self._window.popleft()
        for key in [key for key, each in self.tripped.items() if BETWEEN in key and each.is_forgotten(now)]:
            del self.tripped[key]
        for method, (_, failed) in counts.items():
            if failed:
                self._judge(method, now)

    def _judge(self, method: str, now: float) -> None:
        calls = failed = 0
        tenants: dict[str, tuple[int, int]] = {}
        for _, counts, parts in self._window:
            more = counts.get(method, (0, 0))
            calls, failed = calls + more[0], failed + more[1]
            for tenant, more in parts.get(method, {}).items():
                known = tenants.get(tenant, (0, 0))
                tenants[tenant] = known[0] + more[0], known[1] + more[1]
        for tenant, counted in tenants.items():
            self._open_if(_key_of(tenant, method), *counted, now)
        without = [(calls - counted[0], failed - counted[1]) for counted in tenants.values()]
        if all(self._is_too_often(*counted) for counted in without):
            self._open_if(method, calls, failed, now)

    def _is_too_often(self, calls: int, failed: int) -> bool:
        return calls >= self.limits.calls and failed >= self.limits.ratio * calls

    def _open_if(self, key: str, calls: int, failed: int, now: float) -> None:
        if key not in self.tripped and self._is_too_often(calls, failed):
            why = f"{failed} of its {calls} calls failed within {self.limits.window:.3g} s"
            self.tripped[key] = Breaker(self.limits, why, now)
            self.opened += 1

    def admit(self, call: Call, method: str, now: float) -> None:
        """Let a call through, as a probe where a breaker of its method is half open.

        Args:
            method: the key of its method.

        Raises:
            RpcError: 1001; it was not executed.
        """
        for key in (method, _key_of(call.tenant, method)):
            if (breaker := self.tripped.get(key)) is not None:
                breaker.admit(call, now)
                self._probing.setdefault(call, []).append(key)

    def ended(self, call: Call, code: int, now: float) -> None:
        """Count a call that has ended; of those that were no probes nothing is counted."""
        for key in self._probing.pop(call, ()):
            breaker = self.tripped.get(key)
            if breaker is not None and breaker.ended(call, code, now):
                del self.tripped[key]
                self._forget(key)
        if not self.tripped:
            self._probing.clear()

    def _forget(self, key: str) -> None:
        """Forget what was counted before a breaker was closed."""
        tenant, method = tenant_and_name(key)
        for _, counts, parts in self._window:
            counts.pop(key, None)
            parts.pop(key, None)
            if key != method and tenant in (tenants := parts.get(method, {})):
                parts[method] = {other: counted for other, counted in tenants.items() if other != tenant}
                calls, failed = counts[method]
                counts[method] = calls - tenants[tenant][0], failed - tenants[tenant][1]

    def words(self, now: float) -> dict[str, str]:
        """Which breakers are not closed, and why, a phrase each, by the key of the method."""
        return {
            key: f"the breaker of {_shown(key)} is {breaker.state(now).replace('_', ' ')}: {breaker.why}"
            for key, breaker in self.tripped.items()
        }

    def states(self, now: float) -> dict[str, State]:
        """The breakers that are not closed, by the key of the method."""
        return {method: breaker.state(now) for method, breaker in self.tripped.items()}


def _key_of(tenant: str, method: str) -> str:
    """The key of one tenant's breaker of a method: that of the method, where it is this tenant's own anyway."""
    return method if BETWEEN in method else f"{tenant}{BETWEEN}{method}"


def _shown(key: str) -> str:
    tenant, name = tenant_and_name(key)
    return f"{name:.100} for tenant {tenant:.100}" if BETWEEN in key else f"{name:.100}"
