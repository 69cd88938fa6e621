"""Publish and subscribe through a real hub, over real sockets."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.hub import RunningHub
from tests.support.match import require
from tests.support.peer import Peer, peer
from trunkline_protocol.errors import ErrorCode

HISTORY = 5
MAX_SUBSCRIPTIONS = 4

_names = itertools.count()


@pytest.fixture(scope="module")
def hub() -> Iterator[RunningHub]:
    """A hub with little memory; its executors need not be ready for most of this."""
    env = {
        "TRUNKLINE_HISTORY_EVENTS": str(HISTORY),
        "TRUNKLINE_MAX_SUBSCRIPTIONS": str(MAX_SUBSCRIPTIONS),
        "TRUNKLINE_OUTBOX_EVENT_BYTES": "65536",
    }
    with RunningHub(env=env) as running:
        yield running


@pytest.fixture
def topic() -> str:
    """Tests share the hub, not their topics."""
    return f"test.{next(_names)}"


async def next_params(connection: Peer, number: int = 1) -> list[Any]:
    """The params of the next events and gaps, those included that came before a reply."""
    kept, connection.others = connection.others[:number], connection.others[number:]
    return [message["params"] for message in [*kept, *[await connection.receive() for _ in range(number - len(kept))]]]


async def nothing_more(connection: Peer) -> None:
    await connection.result("rpc.ping")
    assert connection.others == []


async def test_from_one_connection_to_another_in_order(hub: RunningHub, topic: str) -> None:
    async with peer(hub.url) as speaker, peer(hub.url) as listener:
        begun = await listener.result("subscribe", {"topic": topic})
        for number in range(500):
            await speaker.notify("publish", {"topic": topic, "data": {"n": number}})
        events = await next_params(listener, 500)
        assert [event["data"]["n"] for event in events] == list(range(500))
        assert [event["offset"] for event in events] == list(range(1, 501))
        assert {event["epoch"] for event in events} == {begun["epoch"]}
        await nothing_more(listener)
        await nothing_more(speaker)


async def test_several_speakers_and_listeners_agree_on_the_order(hub: RunningHub, topic: str) -> None:
    async with peer(hub.url) as one, peer(hub.url) as two, peer(hub.url) as three:
        for connection in (one, two, three):
            await connection.result("subscribe", {"topic": topic})

        async def speak(connection: Peer, name: str) -> None:
            for number in range(50):
                await connection.notify("publish", {"topic": topic, "data": [name, number]})

        await asyncio.gather(speak(one, "one"), speak(two, "two"))
        heard = [await next_params(connection, 100) for connection in (one, two, three)]
        assert heard[0] == heard[1] == heard[2]
        assert [event["offset"] for event in heard[0]] == list(range(1, 101))
        for name in ("one", "two"):
            assert [event["data"][1] for event in heard[0] if event["data"][0] == name] == list(range(50))


async def test_an_acknowledged_event_is_stored(hub: RunningHub, topic: str) -> None:
    async with peer(hub.url) as speaker:
        stored = await speaker.result("publish", {"topic": topic, "data": "kept"})
        assert stored == {"topic": topic, "epoch": stored["epoch"], "offset": 1}
    async with peer(hub.url) as listener:
        recover = {"epoch": stored["epoch"], "offset": 0}
        assert (await listener.result("subscribe", {"topic": topic, "recover": recover}))["recovered"]
        assert [event["data"] for event in await next_params(listener)] == ["kept"]


async def test_patterns(hub: RunningHub, topic: str) -> None:
    async with peer(hub.url) as speaker, peer(hub.url) as listener:
        for pattern in (f"{topic}.*", f"{topic}.>", f"{topic}.a"):
            await listener.result("subscribe", {"topic": pattern})
        for tail in ("a", "b", "a.b", "b"):
            await speaker.result("publish", {"topic": f"{topic}.{tail}", "data": 1})
        await speaker.result("publish", {"topic": topic, "data": 1})
        events = await next_params(listener, 4)
        assert [(event["topic"].removeprefix(topic), event["offset"]) for event in events] == [
            *((".a", 1), (".b", 1), (".a.b", 1), (".b", 2))
        ]
        await nothing_more(listener)


async def test_coming_back_after_a_cut(hub: RunningHub, topic: str) -> None:
    async with peer(hub.url) as speaker:
        async with peer(hub.url) as listener:
            await listener.result("subscribe", {"topic": topic})
            await speaker.result("publish", {"topic": topic, "data": 1})
            (last,) = await next_params(listener)
            listener.socket.transport.abort()
        for number in (2, 3):
            await speaker.result("publish", {"topic": topic, "data": number})
        async with peer(hub.url) as listener:
            recover = {"epoch": last["epoch"], "offset": last["offset"]}
            begun = await listener.result("subscribe", {"topic": topic, "recover": recover})
            require({"recovered": True, "offset": 1}, begun)
            await speaker.result("publish", {"topic": topic, "data": 4})
            assert [event["data"] for event in await next_params(listener, 3)] == [2, 3, 4]
            await nothing_more(listener)


async def test_coming_back_too_late(hub: RunningHub, topic: str) -> None:
    async with peer(hub.url) as speaker, peer(hub.url) as listener:
        epoch = (await listener.result("subscribe", {"topic": topic}))["epoch"]
        await listener.result("unsubscribe", {"topic": topic})
        for number in range(HISTORY + 1):
            await speaker.result("publish", {"topic": topic, "data": number})
        recover = {"epoch": epoch, "offset": 0}
        begun = await listener.result("subscribe", {"topic": topic, "recover": recover})
        require({"recovered": False, "offset": HISTORY + 1, "epoch": epoch}, begun)
        (gap,) = await next_params(listener)
        missing = {"from": 1, "to": HISTORY + 1, "count": HISTORY + 1}
        assert gap == {"topic": topic, "epoch": epoch, "reason": "history"} | missing
        begun = await listener.result("subscribe", {"topic": topic, "recover": {"epoch": epoch, "offset": 1}})
        require({"recovered": True, "offset": 1}, begun)
        assert len(await next_params(listener, HISTORY)) == HISTORY
        begun = await listener.result("subscribe", {"topic": topic, "recover": {"epoch": "old", "offset": 1}})
        require({"recovered": False}, begun)
        require([{"from": 1, "to": HISTORY + 1, "reason": "epoch"}], await next_params(listener))


async def test_unsubscribed_means_no_event(hub: RunningHub, topic: str) -> None:
    async with peer(hub.url) as speaker, peer(hub.url) as listener:
        await listener.result("subscribe", {"topic": topic})
        for number in range(200):
            await speaker.notify("publish", {"topic": topic, "data": number})
        assert (await listener.result("unsubscribe", {"topic": topic}))["unsubscribed"]
        before = len(listener.others)
        await speaker.result("publish", {"topic": topic, "data": "later"})
        await listener.result("rpc.ping")
        assert len(listener.others) == before, "nothing comes behind the reply"


async def test_a_slow_reader_is_told_what_it_lost_and_loses_no_reply(hub: RunningHub, topic: str) -> None:
    number, payload = 3000, "x" * 10_000
    async with peer(hub.url, max_queue=1) as slow, peer(hub.url) as speaker, peer(hub.url) as quick:
        await slow.result("subscribe", {"topic": topic})
        await quick.result("subscribe", {"topic": topic})
        for n in range(number):
            await speaker.notify("publish", {"topic": topic, "data": payload})
            if n % 10 == 0:
                await slow.request("rpc.ping", id=f"ping {n}")
            assert (await next_params(quick))[0]["offset"] == n + 1, "others are not held up"
        await speaker.result("publish", {"topic": topic, "data": "last"})
        reached, lost, pings = 0, 0, 0
        while reached <= number:
            message = await slow.receive()
            if "result" in message:
                pings += 1
                continue
            params = message["params"]
            if message["method"] == "event":
                assert params["offset"] == reached + 1
                reached += 1
            else:
                assert params["from"] == reached + 1
                assert params["count"] == params["to"] - reached
                assert params["reason"] == "slow_consumer"
                lost += params["count"]
                reached = params["to"]
        assert lost > 100
        assert pings == number // 10


async def test_so_many_subscriptions(hub: RunningHub, topic: str) -> None:
    async with peer(hub.url) as connection:
        for number in range(MAX_SUBSCRIPTIONS):
            await connection.result("subscribe", {"topic": f"{topic}.{number}"})
        refused = await connection.error("subscribe", {"topic": topic})
        data = {"limit": "TRUNKLINE_MAX_SUBSCRIPTIONS"}
        require({"code": ErrorCode.RESOURCE_EXHAUSTED, "data": data}, refused)
        await connection.result("unsubscribe", {"topic": f"{topic}.0"})
        await connection.result("subscribe", {"topic": topic})


async def test_not_in_a_batch(hub: RunningHub, topic: str) -> None:
    async with peer(hub.url) as connection:
        call = {"jsonrpc": "2.0", "id": 1, "params": {"topic": topic}}
        await connection.send([call | {"method": "subscribe"}])
        require([{"id": 1, "error": {"code": ErrorCode.INVALID_REQUEST}}], await connection.receive())
        await connection.result("publish", {"topic": topic, "data": 1})
        await nothing_more(connection)


async def test_many_listeners(hub: RunningHub, topic: str) -> None:
    """More than are served at once: the rest in later turns of the loop, in the same order."""
    async with peer(hub.url) as speaker:
        crowd = [peer(hub.url) for _ in range(80)]
        listeners = [await each.__aenter__() for each in crowd]
        try:
            for listener in listeners:
                await listener.result("subscribe", {"topic": topic})
            for number in range(5):
                await speaker.notify("publish", {"topic": topic, "data": number})
            for listener in listeners:
                assert [event["data"] for event in await next_params(listener, 5)] == list(range(5))
        finally:
            for each in crowd:
                await each.__aexit__(None, None, None)


async def test_the_hub_says_who_comes_goes_and_calls(hub: RunningHub) -> None:
    await asyncio.to_thread(hub.ready)  # until then a method that it does not know might be served yet
    async with peer(hub.url) as watcher:
        await watcher.result("subscribe", {"topic": "system.*"})
        async with peer(hub.url) as guest:
            await guest.error("no.such.method")
        # Others may still be told of: those of the tests before.
        opened, closed, failed = set[int](), set[int](), list[Any]()
        while not (failed and failed[0]["connection"] in opened & closed):
            (params,) = await next_params(watcher)
            data = params["data"]
            if params["topic"] == "system.connections":
                opened |= {each["connection"] for each in data["opened"] or ()}
                closed |= {each["connection"] for each in data["closed"] or ()}
            elif params["topic"] == "system.requests":
                failed += [each for each in data["requests"] if each["code"] and each["method"] == "no.such.method"]
        require([{"outcome": "METHOD_NOT_FOUND", "principal": "anonymous"}], failed)
        await watcher.result("unsubscribe", {"topic": "system.*"})
        watcher.others.clear()
        await nothing_more(watcher)


async def test_a_thousand_patterns_of_one_peer_delay_nobody(topic: str) -> None:
    """They are refused beyond a number of steps; everybody's exact topics get all their events meanwhile."""
    dear = [".".join(each) + ".a" * 22 for each in itertools.product("a*", repeat=10)]
    dearest = ".".join("a" * 32)
    with RunningHub() as hub:
        async with peer(hub.url) as attacker, peer(hub.url) as listener:
            await listener.result("subscribe", {"topic": dearest})
            for pattern in dear[1:1000]:
                await attacker.send(
                    {"jsonrpc": "2.0", "id": pattern, "method": "subscribe", "params": {"topic": pattern}}
                )
            replies = [await attacker.receive() for _ in dear[1:1000]]
            refused = [reply["error"] for reply in replies if "error" in reply]
            assert len(refused) > 900
            require({"code": ErrorCode.RESOURCE_EXHAUSTED, "data": {"limit": "match_steps"}}, refused[0])
            for number in range(200):
                await attacker.result("publish", {"topic": dearest, "data": number})
            assert [event["data"] for event in await next_params(listener, 200)] == list(range(200))
