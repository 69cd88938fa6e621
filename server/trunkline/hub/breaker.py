"""Circuit breakers by method: one whose calls mostly fail is not tried for a while. Pure: the clock is an argument.

==========  =====================================================================================
state       calls of the method
==========  =====================================================================================
closed      go through. Nothing is done for a call: counts are looked at once a second
open        are refused at once, 1001 with ``retry_after_ms`` and ``data.breaker``, until a time
half open   so many go through as probes; the others are refused. One that fails opens the breaker
            again, for twice as long; when all have succeeded it is closed
==========  =====================================================================================
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
from trunkline_protocol.tenants import name_in

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
        tripped: those that are not closed, by the key of the method; always the same dictionary.
        opened: how often one was opened by its counts.
    """

    def __init__(self, limits: BreakerLimits) -> None:
        self.limits = limits
        self.tripped: dict[str, Breaker] = {}
        self.opened = 0
        self._window: deque[tuple[float, dict[str, tuple[int, int]]]] = deque()

    def look(self, now: float, counts: Counts) -> None:
        """Open the breakers of methods that fail too often. To be called about once a second.

        Args:
            counts: since the last call of this; methods without calls may be left out.
        """
        limits = self.limits
        if not limits.ratio:
            self._window.clear()
            self.tripped.clear()
            return
        self._window.append((now, dict(counts)))
        while self._window[0][0] < now - limits.window:
            self._window.popleft()
        for method, (_, failed) in counts.items():
            if failed and method not in self.tripped:
                self._judge(method, now)

    def _judge(self, method: str, now: float) -> None:
        limits = self.limits
        found = [counts[method] for _, counts in self._window if method in counts]
        calls, failed = sum(each[0] for each in found), sum(each[1] for each in found)
        if calls >= limits.calls and failed >= limits.ratio * calls:
            why = f"{failed} of its {calls} calls failed within {limits.window:.3g} s"
            self.tripped[method] = Breaker(limits, why, now)
            self.opened += 1

    def ended(self, call: Call, code: int, now: float) -> None:
        """Count a call of a method whose breaker is not closed."""
        key = call.method if call.info is None else call.info.name
        breaker = self.tripped.get(key)
        if breaker is not None and breaker.ended(call, code, now):
            del self.tripped[key]
            for _, counts in self._window:
                counts.pop(key, None)

    def words(self, now: float) -> dict[str, str]:
        """Which breakers are not closed, and why, a phrase each, by the key of the method."""
        return {
            method: f"the breaker of {name_in(method):.100} is {breaker.state(now).replace('_', ' ')}: {breaker.why}"
            for method, breaker in self.tripped.items()
        }

    def states(self, now: float) -> dict[str, State]:
        """The breakers that are not closed, by the key of the method."""
        return {method: breaker.state(now) for method, breaker in self.tripped.items()}
