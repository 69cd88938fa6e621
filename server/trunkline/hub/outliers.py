"""Who of several that serve the same is not asked for a while, because its calls fail: outlier ejection. Pure.

As in Envoy: whoever fails so many times in a row is left out, longer each time; half of them at most, rounded up; and
where nobody else is there it is asked all the same. Two things differ. Only who fails **while another one serves well**
is an outlier: what makes all of them fail is a matter of the calls, and leaving some out would help nobody. And when
the time is over it is tried with one call, not with as many as it takes to fail again.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from trunkline_protocol.errors import ErrorCode

CONSECUTIVE_FAILURES: Final = 5
BASE_EJECTION_SECONDS: Final = 10.0
"""Times the number of ejections since it last served well."""

MAX_EJECTION_SECONDS: Final = 300.0

FAILURES: Final = frozenset(
    {
        ErrorCode.INTERNAL_ERROR,
        ErrorCode.METHOD_NOT_FOUND,
        ErrorCode.WORKER_UNAVAILABLE,
        ErrorCode.COMMUNICATION_TIMEOUT,
        ErrorCode.SERIALIZATION_ERROR,
        ErrorCode.WORKER_CRASHED,
        ErrorCode.WORKER_OVERLOADED,
        ErrorCode.RESOURCE_EXHAUSTED,
        ErrorCode.PIPELINE_INITIALIZATION_FAILED,
        ErrorCode.MISSING_DEPENDENCIES,
        ErrorCode.DATABASE_CONNECTION_ERROR,
        ErrorCode.INSUFFICIENT_RESOURCES,
    }
)
"""Errors that are about whoever serves."""

OF_THE_CALL: Final = frozenset(
    {
        ErrorCode.PARSE_ERROR,
        ErrorCode.INVALID_REQUEST,
        ErrorCode.INVALID_PARAMS,
        ErrorCode.CANCELLED,
        ErrorCode.UNAUTHENTICATED,
        ErrorCode.FORBIDDEN,
        ErrorCode.RATE_LIMITED,
    }
)
"""Errors that are about the call, and tell nothing of whoever serves."""

SERVER_ERRORS: Final = range(-32099, -31999)
"""Codes that JSON-RPC 2.0 leaves to servers; libraries answer them where a handler has raised something."""


class Standing:
    """How one of those that serve a method has served lately.

    ``now`` is always the same monotonic clock, in seconds.

    Attributes:
        failures: in a row.
        ejected_until: it gets no calls before.
    """

    __slots__ = ("_ejections", "_is_on_trial", "ejected_until", "failures")

    def __init__(self) -> None:
        self.failures = 0
        self.ejected_until = 0.0
        self._ejections = 0
        self._is_on_trial = False

    def is_ejected(self, now: float) -> bool:
        """Whether it is to be left out."""
        return now < self.ejected_until

    def asked(self, now: float) -> None:
        """It is given a call. If it had been left out, that one decides, and it gets no others meanwhile."""
        if self._ejections and now >= self.ejected_until:
            self._is_on_trial = True
            self.ejected_until = now + BASE_EJECTION_SECONDS

    def answered(self, code: int, now: float, others: Collection[Standing]) -> bool:
        """A call that it was given has ended.

        Args:
            code: 0 for a result, else the error's. An error of the method's own is as good as a result.
            others: those of the others that could be asked.

        Returns:
            Whether it is ejected for that.
        """
        if code in FAILURES or code in SERVER_ERRORS:
            return self._failed(now, others)
        if code not in OF_THE_CALL:
            self.failures = self._ejections = 0
            self.ejected_until = 0.0
            self._is_on_trial = False
        return False

    def _failed(self, now: float, others: Collection[Standing]) -> bool:
        self.failures += 1
        on_trial, self._is_on_trial = self._is_on_trial, False
        if not on_trial:
            if self.failures < CONSECUTIVE_FAILURES or self.is_ejected(now):
                return False
            if not any(other.failures == 0 and not other.is_ejected(now) for other in others):
                return False
            ejected = sum(other.is_ejected(now) for other in others)
            if 2 * ejected >= len(others) + 1:
                return False
        self._ejections += 1
        self.ejected_until = now + min(MAX_EJECTION_SECONDS, BASE_EJECTION_SECONDS * self._ejections)
        return True
