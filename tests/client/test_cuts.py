"""Connections that are cut again and again: with a session nobody notices.

That calls have their own answers and run once, and that streams are whole, is shown by `tests/simulation`.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from tests.client.faults import Changes, cutting, through_proxy
from tests.support.hub import RunningHub
from tests.support.timing import PATIENCE
from trunkline.client import Connected, Event, Gap, Hub, connect, received_events
from trunkline.client.link import KEEPALIVE_SECONDS


async def echoes(client: Hub, worker: int, number: int) -> None:
    for index in range(number):
        value = f"{worker}.{index}"
        assert await client.call("debug.echo", {"value": value}) == value


async def test_what_is_pushed_arrives_once_and_in_order(lab_hub: RunningHub) -> None:
    async def one(client: Hub) -> None:
        stream = await client.stream("lab.echo_input", input=range(500))
        assert [chunk.data async for chunk in stream] == list(range(500))

    async with through_proxy(lab_hub.port) as (proxy, client), cutting(proxy, 0) as cuts:
        async with asyncio.timeout(3 * PATIENCE):
            while cuts() < 10:
                await asyncio.gather(*(one(client) for _ in range(3)))


async def test_events_come_once_and_in_order(lab_hub: RunningHub) -> None:
    topic = "cuts.events"
    seen: list[int] = []
    number = 0

    async def read(client: Hub) -> None:
        async with client.subscribe(topic) as events:
            reading.set()
            async for item in events:
                assert isinstance(item, Event), item
                seen.append(item.data)
                if item.data == -1:
                    return

    reading = asyncio.Event()
    async with (
        connect(lab_hub.url) as publisher,
        through_proxy(lab_hub.port) as (proxy, client),
        asyncio.timeout(3 * PATIENCE),
    ):
        task = asyncio.create_task(read(client))
        await reading.wait()
        async with cutting(proxy, 0) as cuts:
            while cuts() < 10:
                await publisher.publish(topic, number)
                number += 1
                await asyncio.sleep(0.002)
        await publisher.publish(topic, -1)
        await task
    assert seen == [*range(number), -1]


async def test_pieces_and_delays_change_nothing(lab_hub: RunningHub) -> None:
    async with through_proxy(lab_hub.port) as (proxy, client):
        proxy.split(7)
        proxy.delay(0.005)
        async with cutting(proxy, 5, mean=0.2), asyncio.timeout(3 * PATIENCE):
            await asyncio.gather(*(echoes(client, worker, 10) for worker in range(5)))


async def test_what_the_client_serves_goes_on(lab_hub: RunningHub) -> None:
    running: list[str] = []

    async def double(params: dict[str, int], _call: object) -> int:
        running.append("x")
        await asyncio.sleep(0.02)
        return params["n"] * 2

    async with through_proxy(lab_hub.port) as (proxy, callee), connect(lab_hub.url) as caller:
        await callee.register("cuts.double", double)
        made = 0
        async with cutting(proxy, 1) as cuts, asyncio.timeout(3 * PATIENCE):
            while cuts() < 10:
                numbers = range(made, made + 5)
                made += 5
                answers = await asyncio.gather(*(caller.call("cuts.double", {"n": n}) for n in numbers))
                assert answers == [2 * n for n in numbers]
    assert len(running) == made


async def test_what_is_seen_of_a_cut(lab_hub: RunningHub) -> None:
    async with through_proxy(lab_hub.port) as (proxy, client):
        changes = Changes(client)
        states = [client.connection_state]
        proxy.refuse()
        proxy.cut()
        first = await changes.wait_for("reconnecting")
        states.append(client.connection_state)
        assert (first.attempt, first.cause.code) == (1, 1006)
        third = await changes.wait_for("reconnecting", 3)
        assert third.attempt == 3
        proxy.refuse(False)
        assert await changes.wait_for("connected") == Connected(resumed=True)
        states.append(client.connection_state)
        assert await client.call("debug.echo", {"value": 1}) == 1
    assert changes.words()[-1] == "closed"
    assert [*states, client.connection_state] == ["connected", "reconnecting", "connected", "closed"]


async def test_patterns_go_on_where_they_were_with_topics_that_are_new(lab_hub: RunningHub) -> None:
    async with (
        connect(lab_hub.url) as publisher,
        through_proxy(lab_hub.port) as (proxy, client),
        client.subscribe("cuts.pattern.*") as events,
        client.subscribe("cuts.pattern.*") as later,
        asyncio.timeout(PATIENCE),
    ):
        changes = Changes(client)
        await publisher.publish("cuts.pattern.a", 1)
        seen = {reader: [await anext(reader)] for reader in (events, later)}
        for away in (1, 2):  # the second time the first replay is what was heard of before
            proxy.refuse()
            proxy.cut()
            await changes.wait_for("reconnecting", 1 if away == 1 else len(changes.reconnecting()) + 1)
            await publisher.publish("cuts.pattern.a", 2)
            await publisher.publish(f"cuts.pattern.new{away}", 1)
            await publisher.publish("cuts.other", 1)
            proxy.refuse(False)
            await changes.wait_for("connected", away)
            await client.call("rpc.ping")
            for reader, items in seen.items():
                items += [await anext(reader), await anext(reader)]
        await publisher.publish("cuts.pattern.a", 3)
        for reader, items in seen.items():
            items.append(await anext(reader))
            assert not [item for item in items if isinstance(item, Gap)]
            assert [item.position.offset for item in items if item.topic == "cuts.pattern.a"] == [1, 2, 3, 4]
            new = [item.topic for item in items if item.topic != "cuts.pattern.a"]
            assert new == ["cuts.pattern.new1", "cuts.pattern.new2"]


async def test_a_pattern_of_more_topics_than_are_remembered_is_a_gap(
    lab_hub: RunningHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(received_events, "MAX_TOPICS", 1)
    async with (
        connect(lab_hub.url) as publisher,
        through_proxy(lab_hub.port) as (proxy, client),
        client.subscribe("cuts.many.*") as events,
        asyncio.timeout(PATIENCE),
    ):
        changes = Changes(client)
        for topic in ("a", "b"):
            await publisher.publish(f"cuts.many.{topic}", 1)
            assert isinstance(await anext(events), Event)
        proxy.cut()
        await changes.wait_for("connected")
        assert await anext(events) == Gap("cuts.many.*", "", 0, 0, None, "disconnected")
        await publisher.publish("cuts.many.b", 2)
        assert isinstance(await anext(events), Event)
        proxy.cut()
        await changes.wait_for("connected", 2)
        await publisher.publish("cuts.many.b", 3)
        item = await anext(events)
        assert isinstance(item, Event), "from the new place on everything is remembered"
        assert item.data == 3


async def test_what_was_called_while_it_was_away_is_sent_then(lab_hub: RunningHub) -> None:
    async with through_proxy(lab_hub.port) as (proxy, client):
        changes = Changes(client)
        proxy.refuse()
        proxy.cut()
        await changes.wait_for("reconnecting")
        calls = [asyncio.create_task(client.call("debug.echo", {"value": n})) for n in range(50)]
        pinging = asyncio.create_task(client.call("rpc.ping"))
        stream = await client.stream("debug.count", {"n": 3})
        await proxy.wait_refused(2)
        proxy.refuse(False)
        assert await asyncio.wait_for(asyncio.gather(*calls), PATIENCE) == list(range(50))
        assert (await asyncio.wait_for(pinging, PATIENCE))["pong"] is True
        assert len([chunk async for chunk in stream]) == 3


async def test_what_concerns_one_connection_only_is_asked_again_on_the_next(lab_hub: RunningHub) -> None:
    """Pings and subscriptions, and their replies, are no part of the session."""
    async with through_proxy(lab_hub.port) as (proxy, client), connect(lab_hub.url) as publisher:
        proxy.stall("to_client")
        pinging = asyncio.create_task(client.call("rpc.ping"))
        subscription = client.subscribe("cuts.again")
        entering = asyncio.create_task(subscription.__aenter__())
        before = proxy.passed["to_hub"]
        await proxy.wait_passed(before + 100, "to_hub")
        proxy.calm()
        proxy.cut()
        assert (await asyncio.wait_for(pinging, PATIENCE))["pong"] is True
        events = await asyncio.wait_for(entering, PATIENCE)
        await publisher.publish("cuts.again", 1)
        item = await asyncio.wait_for(anext(events), PATIENCE)
        assert isinstance(item, Event)
        assert item.data == 1
        await subscription.__aexit__(None, None, None)


async def test_leaving_while_it_is_away_hangs_nowhere(lab_hub: RunningHub) -> None:
    async with asyncio.timeout(PATIENCE), through_proxy(lab_hub.port) as (proxy, client):
        changes = Changes(client)
        async with client.subscribe("cuts.left"):
            proxy.refuse()
            proxy.cut()
            await changes.wait_for("reconnecting")


async def test_a_connection_that_hangs_is_given_up(lab_hub: RunningHub) -> None:
    """Nothing comes and nothing is taken any more, not even what was written last; the call is answered."""
    size = 14 * 2**20  # more than all buffers on the way hold
    async with through_proxy(lab_hub.port, keepalive=0.3) as (proxy, client):
        changes = Changes(client)
        proxy.stall()
        call = asyncio.create_task(client.call("debug.echo", {"value": "x" * size}))
        await changes.wait_for("reconnecting")
        reconnector = client._reconnector  # what follows may take its time
        reconnector._connector = replace(reconnector._connector, keepalive=KEEPALIVE_SECONDS)
        proxy.resume()
        proxy.cut()
        assert len(await asyncio.wait_for(call, 2 * PATIENCE)) == size
