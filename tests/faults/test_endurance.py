"""Executors that are replaced, or killed, again and again cost no call that is safe to keep, and leave nothing."""

from __future__ import annotations

import pytest

from tests.faults.endurance import SAFE_AFTER_CRASHES, Report, run
from tests.support.timing import SCALE

pytestmark = pytest.mark.alone

MAX_GROWTH_MB = 25


def require_nothing_left(report: Report) -> None:
    before, after = report.before, report.after
    assert after.processes == before.processes
    assert after.descriptors <= before.descriptors + 1, "a connection may come or go"
    assert after.threads <= before.threads + 1
    assert after.rss_mb <= before.rss_mb + MAX_GROWTH_MB


async def test_reloads_and_crashes() -> None:
    reports = await run(5, 10)
    require_nothing_left(reports["reloads"])
    require_nothing_left(reports["crashes"])
    assert reports["reloads"].calls > 50
    assert not reports["reloads"].failed
    assert all(report.slowest_seconds < 5 * SCALE for report in reports.values()), "nobody waits long"
    assert reports["crashes"].failed_safe(SAFE_AFTER_CRASHES) == 0, reports["crashes"].failed
    assert set(reports["crashes"].failed) <= {"work.once 2001", "work.stream 2001"}
