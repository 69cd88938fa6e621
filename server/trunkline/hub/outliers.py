"""Outlier ejection: a callee whose calls fail gets none for a while, where other callees serve the same. Pure.

As in Envoy: a callee that fails so many times in a row is ejected, longer each time; half of the callees at most,
rounded up; and where no other one is attached it gets calls all the same. Two things differ. Only a callee that fails
**while another one serves well** is an outlier: where all fail, the calls are the cause, and ejection would not help.
And after the ejection one call decides, not as many as it takes to fail again.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from trunkline_protocol.errors import ErrorCode

CONSECUTIVE_FAILURES: Final = 5
BASE_EJECTION_SECONDS: Final = 10.0
"""Multiplied by the number of ejections since the callee last served well."""

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
"""Errors that count as failures of the callee."""

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
"""Errors that are about the call, and count neither as failure nor as success of the callee."""

SERVER_ERRORS: Final = range(-32099, -31999)
"""Codes that JSON-RPC 2.0 leaves to servers; libraries answer with them when a handler raises."""


class Standing:
    """The record of one callee: its failures in a row, and its ejections.

    ``now`` is always the same monotonic clock, in seconds.

    Attributes:
        failures: how many in a row.
        ejected_until: the callee gets no calls before.
    """

    __slots__ = ("_ejections", "_is_on_trial", "ejected_until", "failures")

    def __init__(self) -> None:
        self.failures = 0
        self.ejected_until = 0.0
        self._ejections = 0
        self._is_on_trial = False

    def is_ejected(self, now: float) -> bool:
        """Whether the callee is ejected now."""
        return now < self.ejected_until

    def asked(self, now: float) -> None:
        """Note that the callee is given a call. After an ejection that call decides, and is the only one meanwhile."""
        if self._ejections and now >= self.ejected_until:
            self._is_on_trial = True
            self.ejected_until = now + BASE_EJECTION_SECONDS

    def answered(self, code: int, now: float, others: Collection[Standing]) -> bool:
        """Count a call of the callee that has ended.

        Args:
            code: 0 for a result, else the error's code. An error of the method's own counts as success.
            others: the records of the other attached callees.

        Returns:
            Whether the callee is ejected for that.
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
