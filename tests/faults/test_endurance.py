"""Executors that are replaced, or killed, again and again cost no call that is safe to keep, and leave nothing."""

from __future__ import annotations

import pytest

from tests.faults.endurance import SAFE_AFTER_CRASHES, Report, run
from tests.support.timing import PATIENCE, SCALE

pytestmark = pytest.mark.timeout(60 + 12 * PATIENCE)

MAX_GROWTH_MB = 25


def require_nothing_left(report: Report) -> None:
    before, after = report.before, report.after
    assert after.processes == before.processes
    assert after.descriptors <= before.descriptors + 1, "a connection may come or go"
    assert after.threads <= before.threads + 1
    assert after.rss_mb <= before.rss_mb + MAX_GROWTH_MB
    assert report.slowest_seconds < 5 * SCALE, "nobody waits long"


async def test_reloads() -> None:
    report = (await run(5, 0))["reloads"]
    require_nothing_left(report)
    assert report.calls > 50
    assert not report.failed


async def test_crashes() -> None:
    report = (await run(0, 10))["crashes"]
    require_nothing_left(report)
    assert report.failed_safe(SAFE_AFTER_CRASHES) == 0, report.failed
    assert set(report.failed) <= {"work.once 2001", "work.stream 2001"}
