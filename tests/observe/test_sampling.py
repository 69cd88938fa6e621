from __future__ import annotations

import asyncio
import time

import pytest

from tests.support.timing import PATIENCE
from trunkline.control import metrics, sampling
from trunkline.control.method import HubView
from trunkline.control.sampling import Sampler
from trunkline.observe.metrics import CallStats
from trunkline_protocol.reports import MetricsParams


async def test_samples_are_taken_while_it_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "SECONDS", 0.01)
    stats = CallStats()
    sampler = Sampler(stats)
    assert sampler.lately(60) == []
    sampler.start()
    stats.record("m", 0.001, 0)
    async with asyncio.timeout(PATIENCE):
        while not any("m" in sample.methods for sample in sampler.lately(60)):
            await asyncio.sleep(0.005)
    sampler.stop()
    taken = len(sampler.lately(60))
    await asyncio.sleep(0.05)
    assert len(sampler.lately(60)) == taken


def test_a_range_of_a_hub_that_has_no_samples_yet_is_empty() -> None:
    class Nothing:
        waiting = in_flight = 0

    view = HubView(Nothing(), Nothing(), CallStats(), time.monotonic(), lambda: 0)  # type: ignore[arg-type]
    said = metrics.get(view, MetricsParams("1m", series=True))
    assert (said["window_seconds"], said["request_count"], said["requests_per_second"]) == (0, 0, 0)
    assert (said["methods"], said["series"]) == ({}, [])
