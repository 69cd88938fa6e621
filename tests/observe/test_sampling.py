from __future__ import annotations

import asyncio
import time

import pytest

from trunkline.control import metrics, sampling
from trunkline.control.method import HubView
from trunkline.control.sampling import Sampler
from trunkline.observe.metrics import CallStats
from trunkline_protocol.reports import MetricsParams


@pytest.mark.virtual_time
async def test_samples_are_taken_while_it_runs() -> None:
    stats = CallStats()
    sampler = Sampler(stats)
    assert sampler.lately(60) == []
    sampler.start()
    stats.record("m", 0.001, 0)
    await asyncio.sleep(2.5 * sampling.SECONDS)
    assert ["m" in sample.methods for sample in sampler.lately(60)] == [True, False]
    sampler.stop()
    await asyncio.sleep(10 * sampling.SECONDS)
    assert len(sampler.lately(60)) == 2


def test_a_range_of_a_hub_that_has_no_samples_yet_is_empty() -> None:
    class Nothing:
        methods: tuple[str, ...] = ()
        waiting = in_flight = 0

    view = HubView(Nothing(), Nothing(), CallStats(), time.monotonic(), lambda: 0)  # type: ignore[arg-type]
    said = metrics.get(view, MetricsParams("1m", series=True))
    assert (said.window_seconds, said.request_count, said.requests_per_second) == (0, 0, 0)
    assert (said.methods, said.series) == ({}, [])
