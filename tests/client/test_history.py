"""``hub.history`` of both Python clients, against a hub that keeps little."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from tests.support.hub import RunningHub, ready_hub
from trunkline.client import Gap, Position, connect, connect_sync
from trunkline_protocol.errors import ErrorCode, RpcError


@pytest.fixture(scope="module")
def forgetful_hub() -> Iterator[RunningHub]:
    with ready_hub(env={"TRUNKLINE_HISTORY_EVENTS": "3"}) as hub:
        yield hub


async def test_what_is_kept_what_is_not_and_what_follows(forgetful_hub: RunningHub) -> None:
    async with connect(forgetful_hub.url) as hub:
        for n in range(1, 6):
            last = await hub.publish("kept.a", {"n": n})
        latest = await hub.history("kept.a", limit=2)
        assert [event.data["n"] for event in latest.events] == [4, 5]
        assert (latest.position, latest.gap, latest.more) == (last, None, False)
        assert latest.events[1].position == last
        page = await hub.history("kept.a", after=Position(last.epoch, 0), limit=2)
        assert [event.offset for event in page.events] == [3, 4]
        assert (page.gap, page.more) == (Gap("kept.a", last.epoch, 1, 2, 2, "history"), True)
        rest = await hub.history("kept.a", after=page.events[-1].position)
        assert ([event.offset for event in rest.events], rest.gap, rest.more) == ([5], None, False)
        with pytest.raises(RpcError) as caught:
            await hub.history("kept.*")
        assert caught.value.code == ErrorCode.INVALID_PARAMS


async def test_the_client_for_threads_has_it(forgetful_hub: RunningHub) -> None:
    def listed() -> list[int]:
        with connect_sync(forgetful_hub.url) as hub:
            hub.publish("kept.b", 1)
            return [event.data for event in hub.history("kept.b").events]

    assert await asyncio.to_thread(listed) == [1]
