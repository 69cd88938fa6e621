"""Which methods fail: calls and failures of each over the last minute, from the counts of calls. Pure.

A method is failing where, of at least :data:`MIN_FAILURES` failures,

1. a share of :data:`FAILING_SHARE` of its calls of the last :data:`WINDOW_SECONDS` failed, or
2. nothing has succeeded since them (so that a method that was busy and well before shows at once, and one that is
   called once a minute shows at all).

It fails no more once as many calls in a row have succeeded, or as soon as the window says so.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from typing import Final, NamedTuple

from trunkline.hub.outliers import FAILURES
from trunkline.observe.metrics import APPLICATION_ERROR, UNKNOWN_METHOD, CallStats, MethodStats
from trunkline_protocol.errors import ErrorCode
from trunkline_protocol.health_reports import LastError

WINDOW_SECONDS: Final = 60.0
FAILING_SHARE: Final = 0.2
MIN_FAILURES: Final = 5
STREAK_SECONDS: Final = 600.0
"""Seconds without a call after which failures in a row say nothing any more."""

COUNTED: Final = FAILURES - {
    ErrorCode.METHOD_NOT_FOUND, ErrorCode.WORKER_OVERLOADED, ErrorCode.RESOURCE_EXHAUSTED,
} | {ErrorCode.PIPELINE_EXECUTION_ERROR}  # fmt: skip
"""Errors that are failures of a method: not refusals, faults of the caller, or errors with codes of its own."""

MAX_MESSAGE_CHARS: Final = 500


class FailureRate(NamedTuple):
    """How a method fails: ``failed`` of ``calls`` in the last minute."""

    method: str
    calls: int
    failed: int
    share: float
    per_second: float
    last: LastError | None


class _Counts(NamedTuple):
    """A method's counts since the hub started, at one moment."""

    at: float
    calls: int
    failed: int


class _Track:
    """The recent counts of one method. Where none has failed lately, only the latest are kept."""

    __slots__ = ("counts", "failed_at", "failures_in_a_row", "successes_in_a_row")

    def __init__(self, first: _Counts) -> None:
        self.counts = deque([first])
        self.failures_in_a_row = 0
        self.successes_in_a_row = 0
        self.failed_at = 0.0

    def take(self, now: _Counts) -> None:
        """Add the present counts."""
        before = self.counts[-1]
        failed = now.failed - before.failed
        succeeded = now.calls - before.calls - failed
        if failed:
            self.failed_at = now.at
            self.failures_in_a_row = failed if succeeded else self.failures_in_a_row + failed
            self.successes_in_a_row = 0
        elif succeeded:
            self.failures_in_a_row = 0
            self.successes_in_a_row += succeeded
        if self.counts[0].failed == now.failed or self.successes_in_a_row >= MIN_FAILURES:
            self.counts.clear()
        if failed or succeeded or not self.counts:
            self.counts.append(now)
        while len(self.counts) > 1 and self.counts[1].at <= now.at - WINDOW_SECONDS:
            self.counts.popleft()

    def rate(self, method: str, now: float, last: LastError | None) -> FailureRate | None:
        """How the method fails; None where it does not."""
        first, latest = self.counts[0], self.counts[-1]
        calls, failed = latest.calls - first.calls, latest.failed - first.failed
        share = failed / calls if calls else 1.0
        in_a_row = self.failures_in_a_row >= MIN_FAILURES and now - self.failed_at < STREAK_SECONDS
        mostly = failed >= MIN_FAILURES and share >= FAILING_SHARE
        if not (in_a_row or mostly):
            return None
        seconds = min(WINDOW_SECONDS, max(1.0, now - first.at))
        return FailureRate(method, calls, failed, share, failed / seconds, last)


class FailureRates:
    """Finds the methods that fail.

    Args:
        stats: the counts of calls, by method.
    """

    def __init__(self, stats: CallStats) -> None:
        self._stats = stats
        self._tracks: dict[str, _Track] = {}
        self._last: dict[str, LastError] = {}

    def note(self, method: str | None, failure: tuple[int, str] | None) -> None:
        """Keep code and text of the error of a call that has failed, after it was counted."""
        if failure is not None and failure[0] in COUNTED and method in self._stats.methods:
            code, message = failure
            at = int(time.time() * 1000)
            self._last[method] = LastError(ErrorCode(code).name, code, message[:MAX_MESSAGE_CHARS], at)

    def take(self, now: float) -> None:
        """Read the counts; to be called a few times a second. ``now`` is monotonic, in seconds."""
        if len(self._tracks) > len(self._stats.methods):
            for gone in self._tracks.keys() - self._stats.methods.keys():  # those of a tenant that was deleted
                del self._tracks[gone]
                self._last.pop(gone, None)
        for name, stats in self._stats.methods.items():
            if name == UNKNOWN_METHOD:
                continue
            counts = _counts(stats, now)
            if (track := self._tracks.get(name)) is None:
                track = self._tracks[name] = _Track(_Counts(now, 0, 0))
            track.take(counts)

    def failing(self, now: float) -> Iterator[FailureRate]:
        """The methods that fail."""
        for name, track in self._tracks.items():
            if (rate := track.rate(name, now, self._last.get(name))) is not None:
                yield rate


def _counts(stats: MethodStats, now: float) -> _Counts:
    failed = answered = 0
    for code, number in stats.errors.items():
        if code in COUNTED:
            failed += number
        elif code == APPLICATION_ERROR:
            answered += number
    return _Counts(now, stats.ok + answered + failed, failed)
