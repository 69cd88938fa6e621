"""Hub and service are restarted under load, with real processes: what is safe to keep is kept by both clients."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.faults.recorder.node import missing_for_node
from tests.faults.restarts.calls import Ended, judge
from tests.faults.restarts.run import Plan, run
from tests.support.timing import PATIENCE, SCALE


@pytest.mark.timeout(60 + 12 * PATIENCE)
async def test_restarts_lose_no_call_that_is_safe_to_keep(tmp_path: Path) -> None:
    if (missing := missing_for_node()) is not None:
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
    report = await run(Plan(1_000, 3, tmp_path))
    assert not report.verdict.faults
    assert report.verdict.calls == 1_000
    assert (report.hub_restarts, report.service_restarts) == (2, 2)
    assert report.verdict.slowest_seconds < 15 * SCALE, "nobody waits much longer than hub or service were away"


def ended(n: int, method: str, error: str = "", *, maybe_executed: bool = False) -> Ended:
    return Ended(n, method, error, maybe_executed, 0.5)


def test_the_judge_finds_each_fault() -> None:
    outcomes = [
        ended(0, "hub.once"),
        ended(1, "hub.again", "lost", maybe_executed=True),
        ended(2, "service.work", "lost"),
        ended(4, "hub.once"),
        ended(6, "service.work"),
        ended(6, "service.work"),
        ended(8, "hub.once", "lost", maybe_executed=True),
        ended(9, "hub.again"),
    ]
    verdict = judge(range(10), outcomes, {0: 2, 2: 1, 6: 1, 8: 1, 9: 3})
    assert verdict.faults == {
        "lost_safe": ["1: hub.again lost", "2: service.work lost"],
        "without_outcome": [3, 5, 7],
        "ended_twice": [6],
        "executed_twice": [0],
        "not_executed": [4],
        "denied": [2],
    }
    assert verdict.failed == {"hub.again lost": 1, "service.work lost": 1, "hub.once lost": 1}
    assert not judge([8, 9], [each for each in outcomes if each.n > 7], {8: 1, 9: 3}).faults
