"""``system.health``: what is said, when, and how often."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

import pytest

from tests.control.monitored_hub import Hub, ticks
from tests.support.health import executor_report
from trunkline.control.monitoring import HEALTH, HEALTH_SECONDS, METRICS
from trunkline_protocol.health_reports import GroupSeen

pytestmark = pytest.mark.virtual_time


@pytest.fixture
async def hub() -> AsyncIterator[Hub]:
    made = Hub()
    made.health.start()
    yield made
    made.health.stop()
    made.monitor.stop()


async def test_each_change_of_health_is_said_whole_and_at_once_to_a_new_subscriber(hub: Hub) -> None:
    hub.listen(HEALTH)
    first = await hub.next(HEALTH)
    assert (first["status"], first["ready"], first["causes"]) == ("healthy", True, [])
    await ticks()
    assert len(hub.board.said) == 1, "nothing has changed"
    hub.pool.seen = [GroupSeen("default", [executor_report(status="silent")], [], [], [])]
    second = await hub.next(HEALTH, 2)
    assert (second["status"], second["ready"], len(second["groups"])) == ("unhealthy", False, 1)
    assert second["since"] >= first["since"]
    hub.listen(HEALTH, METRICS)
    assert (await hub.next(HEALTH, 3))["since"] == second["since"]


async def test_health_that_flaps_is_said_once_a_second_and_how_it_ended(hub: Hub) -> None:
    hub.listen(HEALTH)
    await hub.next(HEALTH)
    begun = time.monotonic()
    for turn in range(40):
        hub.router.draining = turn % 2 == 0
        await ticks(1)
    hub.router.draining = True
    await ticks()
    said = hub.board.of(HEALTH)
    assert 2 < len(said) - 1 <= (time.monotonic() - begun) / HEALTH_SECONDS + 1
    assert said[-1]["status"] == "stopping", "the last state is always said"
