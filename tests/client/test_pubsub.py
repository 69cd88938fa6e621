"""Publish and subscribe of the Python client, against a real hub."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from tests.support.hub import RunningHub, ready_hub
from tests.support.proxy import Proxy
from tests.support.timing import PATIENCE
from trunkline.client import DisconnectedError, Event, Gap, Hub, Position, Subscription, connect
from trunkline_protocol.errors import ErrorCode, RpcError

HISTORY = 20


@pytest.fixture(scope="module")
def hub() -> Iterator[RunningHub]:
    """One that keeps few events, and queues few bytes for a slow connection."""
    env = {"TRUNKLINE_HISTORY_EVENTS": str(HISTORY), "TRUNKLINE_OUTBOX_EVENT_BYTES": "65536"}
    with ready_hub(env=env) as running:
        yield running


@pytest.fixture
async def client(hub: RunningHub) -> AsyncIterator[Hub]:
    async with connect(hub.url) as connected:
        yield connected


@pytest.fixture
async def other(hub: RunningHub) -> AsyncIterator[Hub]:
    async with connect(hub.url) as connected:
        yield connected


topic_numbers = itertools.count()


@pytest.fixture
def topic() -> str:
    return f"tests.t{next(topic_numbers)}"


async def some(events: Subscription, number: int) -> list[Event | Gap]:
    async with asyncio.timeout(PATIENCE):
        return [await anext(events) for _ in range(number)]


async def until(events: Subscription, is_last: Callable[[Event | Gap], bool]) -> list[Event | Gap]:
    seen = []
    async with asyncio.timeout(PATIENCE):
        async for item in events:
            seen.append(item)
            if is_last(item):
                break
    return seen


def offsets(items: list[Event | Gap]) -> list[int | tuple[int, int]]:
    return [item.offset if isinstance(item, Event) else (item.start, item.end) for item in items]


def require_whole(items: list[Event | Gap], first: int, last: int) -> None:
    """Every offset once, as an event or in a gap, in order."""
    following = first
    for item in items:
        start, end = (item.offset, item.offset) if isinstance(item, Event) else (item.start, item.end)
        assert start == following, f"{item} where {following} should follow"
        following = end + 1
    assert following == last + 1


async def test_publish_and_subscribe(client: Hub, other: Hub, topic: str) -> None:
    async with client.subscribe(topic) as events:
        assert events.position is not None
        assert (events.position.offset, events.recovered) == (0, False)
        values: list[Any] = [1, {"a": "ü"}, None, []]
        positions = [await other.publish(topic, value) for value in values]
        seen = await some(events, 4)
        assert [item.position for item in seen] == positions
        assert [item.data for item in seen if isinstance(item, Event)] == [1, {"a": "ü"}, None, []]
        assert all(item.topic == topic for item in seen)
        assert {item.publisher for item in seen if isinstance(item, Event)} == {"anonymous"}


async def test_what_one_publishes_oneself_comes_too(client: Hub, topic: str) -> None:
    async with client.subscribe(topic) as events:
        position = await client.publish(topic, "me")
        assert (await some(events, 1))[0].position == position


async def test_the_same_key_is_the_same_event(client: Hub, topic: str) -> None:
    async with client.subscribe(topic) as events:
        first = await client.publish(topic, 1, idempotency_key="k")
        assert await client.publish(topic, 1, idempotency_key="k") == first
        await client.publish(topic, 2)
        assert offsets(await some(events, 2)) == [1, 2]


async def test_patterns_and_overlap(client: Hub, other: Hub, topic: str) -> None:
    async with (
        client.subscribe("tests.*") as pattern,
        client.subscribe(topic) as one,
        client.subscribe(f"{topic}.>", topic) as several,
    ):
        await other.publish(topic, 1)
        await other.publish(f"{topic}.x.y", 2)
        await other.publish(topic, 3)
        assert [item.data for item in await some(one, 2) if isinstance(item, Event)] == [1, 3]
        assert [item.data for item in await some(pattern, 2) if isinstance(item, Event)] == [1, 3]
        assert [item.data for item in await some(several, 3) if isinstance(item, Event)] == [1, 2, 3]


async def test_after_unsubscribing_nothing_comes(client: Hub, other: Hub, topic: str) -> None:
    async with client.subscribe(topic) as kept:
        async with client.subscribe(topic) as left:
            pass
        await other.publish(topic, 1)
        assert offsets(await some(kept, 1)) == [1]
        assert [item async for item in left] == []
    assert (await client.call("unsubscribe", {"topic": topic}))["unsubscribed"] is False


async def test_reconnecting_with_recover_misses_nothing(hub: RunningHub, other: Hub, topic: str) -> None:
    async with connect(hub.url) as first, first.subscribe(topic) as events:
        for number in range(3):
            await other.publish(topic, number)
        seen = await some(events, 2)
        position = events.position
    for number in range(3, 8):
        await other.publish(topic, number)
    async with connect(hub.url) as second, second.subscribe(topic, recover=position) as events:
        assert events.recovered
        await other.publish(topic, 8)
        seen += await some(events, 7)
    assert [item.data for item in seen if isinstance(item, Event)] == list(range(9))


async def test_what_history_does_not_hold_is_a_gap(client: Hub, other: Hub, topic: str) -> None:
    start = await other.publish(topic, 0)
    for number in range(HISTORY + 5):
        await other.publish(topic, number)
    async with client.subscribe(topic, recover=start) as events:
        assert (events.recovered, events.position) == (False, start)
        await other.publish(topic, "next")
        gap, event = await some(events, 2)
        head = HISTORY + 6
        assert gap == Gap(topic, start.epoch, 2, head, head - 1, "history")
        assert event.position == Position(start.epoch, head + 1)


async def test_a_position_of_another_epoch_is_a_gap(client: Hub, other: Hub, topic: str) -> None:
    await other.publish(topic, 0)
    async with client.subscribe(topic, recover=Position("gone", 12)) as events:
        await other.publish(topic, 1)
        gap, event = await some(events, 2)
        assert isinstance(gap, Gap)
        assert (gap.start, gap.end, gap.reason) == (1, 1, "epoch")
        assert event.position.offset == 2


async def test_a_second_subscription_recovers_beside_one_that_is_live(client: Hub, other: Hub, topic: str) -> None:
    start = Position((await other.publish(topic, 0)).epoch, 0)
    async with client.subscribe(topic) as live, client.subscribe("tests.*") as pattern:
        await other.publish(topic, 1)
        assert offsets(await some(live, 1) + await some(pattern, 1)) == [2, 2]
        async with client.subscribe(topic, recover=start) as replay:
            await other.publish(topic, 2)
            assert offsets(await some(replay, 3)) == [1, 2, 3]
            assert offsets(await some(live, 1) + await some(pattern, 1)) == [3, 3]


async def test_who_joins_late_gets_the_latest_events_first(client: Hub, other: Hub, topic: str) -> None:
    for n in range(1, 6):
        await other.publish(topic, n)
    async with client.subscribe(topic) as live, client.subscribe(topic, history=3) as late:
        assert late.recovered
        assert late.position is not None
        assert late.position.offset == 2
        await other.publish(topic, 6)
        assert offsets(await some(late, 4)) == [3, 4, 5, 6]
        assert offsets(await some(live, 1)) == [6], "who was here already gets nothing twice"
    async with client.subscribe(topic, history=1_000) as all_of_it:
        assert offsets(await some(all_of_it, 6)) == [1, 2, 3, 4, 5, 6]


async def test_history_has_its_limits(client: Hub, topic: str) -> None:
    with pytest.raises(ValueError, match="either recover or history"):
        await client.subscribe(topic, history=1, recover=Position("e", 0)).__aenter__()
    for topics, history in ((("tests.*",), 1), ((topic,), 10_001), ((topic,), -1)):
        with pytest.raises(RpcError) as refused:
            await client.subscribe(*topics, history=history).__aenter__()
        assert refused.value.code == ErrorCode.INVALID_PARAMS


async def test_recovering_while_events_come_is_whole_for_everybody(client: Hub, other: Hub, topic: str) -> None:
    """Replies overtake events, replays meet live ones: nothing may be lost, doubled or out of order."""
    last, stop = 0, asyncio.Event()

    async def publish() -> None:
        nonlocal last
        while not stop.is_set():
            answers = await asyncio.gather(*(other.publish(topic, "x" * 500) for _ in range(10)))
            last = max(answer.offset for answer in answers)

    async def recover() -> None:
        position = Position(epoch, max(0, last - HISTORY // 2))
        async with client.subscribe(topic, recover=position) as replay:
            require_whole(await until(replay, lambda item: item.position.offset >= position.offset + 40), *(
                position.offset + 1, (replay.position or position).offset
            ))  # fmt: skip

    async with client.subscribe(topic) as live, client.subscribe("tests.*") as pattern:
        epoch = (await other.publish(topic, 0)).epoch
        publishing = asyncio.create_task(publish())
        for _ in range(60):
            await asyncio.gather(recover(), recover())
        stop.set()
        await publishing
        for events in (live, pattern):
            seen = await until(events, lambda item: item.position.offset == last)
            require_whole(seen, 1, last)


async def test_when_nothing_comes_through_the_hub_drops_and_tells(hub: RunningHub, client: Hub, topic: str) -> None:
    number = 3000
    async with (
        Proxy(hub.port) as proxy,
        connect(proxy.url) as slow,
        slow.subscribe(topic, max_queued=10**6) as events,
    ):
        proxy.stall("to_client")
        for _ in range(number // 100):
            await asyncio.gather(*(client.publish(topic, "x" * 5000) for _ in range(100)))
        proxy.resume()
        seen = await until(events, lambda item: item.position.offset == number)
        require_whole(seen, 1, number)
        gaps = [item for item in seen if isinstance(item, Gap)]
        assert gaps, "this test sends too little"
        assert {gap.reason for gap in gaps} == {"slow_consumer"}
        assert await slow.call("rpc.ping"), "calls are unharmed"


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("bad..topic", None), ErrorCode.INVALID_PARAMS),
        (("tests.*", None), ErrorCode.INVALID_PARAMS),
        (("system.x", None), ErrorCode.FORBIDDEN),
    ],
)
async def test_publications_the_hub_refuses(client: Hub, arguments: tuple[str, Any], code: int) -> None:
    with pytest.raises(RpcError) as caught:
        await client.publish(*arguments)
    assert caught.value.code == code


@pytest.mark.parametrize(("topic", "recover"), [("bad..topic", None), ("", None)])
async def test_subscriptions_the_hub_refuses(client: Hub, topic: str, recover: Position | None) -> None:
    with pytest.raises(RpcError) as caught:
        async with client.subscribe(topic, recover=recover):
            pass
    assert caught.value.code == ErrorCode.INVALID_PARAMS
    assert await client.call("rpc.ping")


async def test_when_the_hub_dies_subscriptions_end() -> None:
    with ready_hub() as hub:
        async with (
            connect(hub.url, reconnect=False) as client,
            client.subscribe("a") as events,
            client.subscribe("a") as witness,
        ):
            await client.publish("a", 1)
            await some(witness, 1)  # it has arrived
            hub.process.kill()
            assert offsets(await some(events, 1)) == [1]
            with pytest.raises(DisconnectedError):
                await some(events, 1)
        await asyncio.to_thread(hub.wait_ended, -9)
