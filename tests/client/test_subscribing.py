"""Subscriptions of the Python client, against a hub that says exactly what the test wants."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest

from tests.client.faults import QUICK
from tests.client.scripted import Answer, agreeable, event, gap, refused, scripted_hub, subscribed
from tests.support.timing import PATIENCE
from trunkline.client import DisconnectedError, Event, Gap, Position, Reconnect, Subscription, connect
from trunkline_protocol.errors import RpcError


async def some(events: Subscription, number: int) -> list[Event | Gap]:
    async with asyncio.timeout(PATIENCE):
        return [await anext(events) for _ in range(number)]


def offsets(items: list[Event | Gap]) -> list[int | tuple[int, int]]:
    return [item.offset if isinstance(item, Event) else (item.start, item.end) for item in items]


def replying(*behind: dict[str, Any], offset: int = 0, recovered: bool = False) -> Answer:
    """Answers ``subscribe``, and says more in the same breath."""

    def answer(message: dict[str, Any]) -> list[dict[str, Any]] | None:
        if message["method"] != "subscribe":
            return None
        return [subscribed(message, offset, recovered=recovered), *behind]

    return answer


# --- one subscription ---


async def test_events_and_gaps_in_order() -> None:
    async with scripted_hub() as hub, connect(hub.url) as client, client.subscribe("a") as events:
        await hub.send(event("a", 1, {"n": 1}), gap("a", 2, 4), event("a", 5))
        assert await some(events, 3) == [
            Event("a", {"n": 1}, "e1", 1, 1_765_432_100_123),
            Gap("a", "e1", 2, 4, 3, "slow_consumer"),
            Event("a", None, "e1", 5, 1_765_432_100_123),
        ]


async def test_events_can_be_matched() -> None:
    match Event("a", {"n": 1}, "e1", 1, 0):
        case Event(topic, {"n": number}):
            assert (topic, number) == ("a", 1)
        case _:
            raise AssertionError
    match Gap("a", "e1", 2, 4, 3, "history"):
        case Gap(topic, count=count):
            assert (topic, count) == ("a", 3)


async def test_what_comes_right_behind_the_reply_is_not_lost() -> None:
    behind = [event("a", offset) for offset in range(1, 200)]
    async with scripted_hub(replying(*behind)) as hub, connect(hub.url) as client, client.subscribe("a") as events:
        assert offsets(await some(events, 199)) == list(range(1, 200))


async def test_an_unannounced_hole_is_announced() -> None:
    async with scripted_hub() as hub, connect(hub.url) as client, client.subscribe("a") as events:
        await hub.send(event("a", 1), event("a", 4))
        assert (await some(events, 3))[1] == Gap("a", "e1", 2, 3, 2, "missing")


async def test_position_moves_with_what_was_handed_out() -> None:
    answer = replying(event("a", 8), gap("a", 9, 11), event("a", 12), offset=7)
    async with scripted_hub(answer) as hub, connect(hub.url) as client, client.subscribe("a") as events:
        positions = [events.position]
        for _ in range(3):
            positions.append((await some(events, 1))[0].position)
            assert events.position == positions[-1]
        assert [str(position) for position in positions] == ["e1:7", "e1:8", "e1:11", "e1:12"]


async def test_recover_is_asked_for_and_answered() -> None:
    answer = replying(event("a", 8), offset=7, recovered=True)
    async with scripted_hub(answer) as hub, connect(hub.url) as client:
        async with client.subscribe("a", recover=Position("e1", 7)) as events:
            assert (events.recovered, events.position) == (True, Position("e1", 7))
            assert offsets(await some(events, 1)) == [8]
        assert hub.calls("subscribe")[0]["params"] == {"topic": "a", "recover": {"epoch": "e1", "offset": 7}}


async def test_what_cannot_be_recovered_begins_with_a_gap() -> None:
    answer = replying(gap("a", 8, 30, "history"), event("a", 31), offset=30)
    async with (
        scripted_hub(answer) as hub,
        connect(hub.url) as client,
        client.subscribe("a", recover=Position("e1", 7)) as events,
    ):
        assert (events.recovered, events.position) == (False, Position("e1", 7))
        assert offsets(await some(events, 2)) == [(8, 30), 31]


async def test_leaving_the_block_unsubscribes_and_ends_the_iteration() -> None:
    async with scripted_hub() as hub, connect(hub.url) as client:
        async with client.subscribe("a") as events:
            reading = asyncio.create_task(collect(events))
            await asyncio.sleep(0)
        assert hub.calls("unsubscribe")[0]["params"] == {"topic": "a"}
        assert await asyncio.wait_for(reading, PATIENCE) == []
        await hub.send(event("a", 1))
        assert await collect(events) == [], "nothing reaches it any more"


async def collect(events: Subscription) -> list[Event | Gap]:
    return [item async for item in events]


@pytest.mark.parametrize("code", [6002, 2003, -32602])
async def test_a_refusal_is_raised_and_leaves_nothing(code: int) -> None:
    def answer(message: dict[str, Any]) -> list[dict[str, Any]] | None:
        return [refused(message, code, "no")] if message["method"] == "subscribe" else None

    async with scripted_hub(answer) as hub, connect(hub.url) as client:
        with pytest.raises(RpcError, match="no") as caught:
            async with client.subscribe("a"):
                raise AssertionError("not subscribed")
        assert caught.value.code == code


@pytest.mark.parametrize(
    ("topics", "options"),
    [((), {}), (("a",), {"max_queued": 0}), (("a", "b"), {"recover": Position("e1", 1)})],
)
async def test_what_cannot_be_is_refused_at_once(topics: tuple[str, ...], options: dict[str, Any]) -> None:
    async with scripted_hub() as hub, connect(hub.url) as client:
        with pytest.raises(ValueError, match=r"topic|recover"):
            async with client.subscribe(*topics, **options):
                pass
        assert hub.received == []


async def test_cancelling_a_subscribe_that_waits_takes_it_back() -> None:
    async with scripted_hub(lambda m: [] if m["method"] == "subscribe" else None) as hub, connect(hub.url) as client:
        entering = asyncio.create_task(client.subscribe("a").__aenter__())
        await hub.wait_for("subscribe")
        entering.cancel()
        with pytest.raises(asyncio.CancelledError):
            await entering
        await hub.wait_for("unsubscribe")


# --- a slow reader ---


async def test_a_slow_reader_loses_the_oldest_and_is_told() -> None:
    async with scripted_hub() as hub, connect(hub.url) as client, client.subscribe("a", max_queued=10) as events:
        await hub.send(*(event("a", offset) for offset in range(1, 101)))
        await client.call("rpc.ping", {"topic": "a"})  # everything has arrived
        assert await some(events, 11) == [
            Gap("a", "e1", 1, 90, 90, "client_slow"),
            *(Event("a", None, "e1", offset, 1_765_432_100_123) for offset in range(91, 101)),
        ]
        await hub.send(event("a", 101))
        assert offsets(await some(events, 1)) == [101]


async def test_a_slow_reader_harms_no_other() -> None:
    async with (
        scripted_hub() as hub,
        connect(hub.url) as client,
        client.subscribe("a", max_queued=1) as slow,
        client.subscribe("a") as other,
    ):
        await hub.send(*(event("a", offset) for offset in range(1, 101)))
        assert offsets(await some(other, 100)) == list(range(1, 101))
        assert offsets(await some(slow, 2)) == [(1, 99), 100]


async def test_a_reader_that_keeps_up_loses_nothing_in_a_burst() -> None:
    number, seen = 20_000, []
    async with scripted_hub() as hub, connect(hub.url) as client, client.subscribe("a", max_queued=16) as events:
        sending = asyncio.create_task(hub.send(*(event("a", offset) for offset in range(1, number + 1))))
        async for item in events:
            seen.append(item)
            await asyncio.sleep(0)  # its own work takes a turn of the loop
            if item.position.offset == number:
                break
        await sending
    assert offsets(seen) == list(range(1, number + 1))


# --- several at once ---


async def test_overlapping_subscriptions_get_each_event_once() -> None:
    async with (
        scripted_hub() as hub,
        connect(hub.url) as client,
        client.subscribe("jobs.*") as pattern,
        client.subscribe("jobs.1") as one,
        client.subscribe(">") as everything,
    ):
        await hub.send(event("jobs.1", 1), event("jobs.2", 1), event("other", 1), gap("jobs.1", 2, 3))
        await hub.send(event("system.metrics", 1), event("jobs.1", 4))
        assert [(item.topic, *offsets([item])) for item in await some(pattern, 4)] == [
            ("jobs.1", 1), ("jobs.2", 1), ("jobs.1", (2, 3)), ("jobs.1", 4),
        ]  # fmt: skip
        assert offsets(await some(one, 3)) == [1, (2, 3), 4]
        assert [item.topic for item in await some(everything, 5)] == ["jobs.1", "jobs.2", "other", "jobs.1", "jobs.1"]
        assert pattern.position is None


async def test_a_replay_for_one_is_no_news_to_the_other() -> None:
    def answer(message: dict[str, Any]) -> list[dict[str, Any]] | None:
        if message["method"] != "subscribe":
            return None
        if "recover" not in message["params"]:
            return [subscribed(message, 5), event("a", 6)]
        return [subscribed(message, 3, recovered=True), *(event("a", offset) for offset in (4, 5, 6, 7))]

    async with (
        scripted_hub(answer) as hub,
        connect(hub.url) as client,
        client.subscribe("a") as first,
        client.subscribe("a", recover=Position("e1", 3)) as second,
    ):
        await hub.send(event("a", 7), event("a", 8))
        assert offsets(await some(second, 5)) == [4, 5, 6, 7, 8]
        assert offsets(await some(first, 3)) == [6, 7, 8]


async def test_the_hub_hears_of_the_last_one_to_leave_only() -> None:
    async with scripted_hub() as hub, connect(hub.url) as client:
        async with client.subscribe("a") as outer:
            async with client.subscribe("a"):
                pass
            await hub.send(event("a", 1))
            assert offsets(await some(outer, 1)) == [1]
            assert hub.calls("unsubscribe") == []
        await hub.wait_for("unsubscribe")
    assert [message["params"] for message in hub.calls("unsubscribe")] == [{"topic": "a"}]


async def test_one_that_is_being_made_is_not_unsubscribed_by_one_that_leaves() -> None:
    late = asyncio.Event()
    asked: list[dict[str, Any]] = []

    def answer(message: dict[str, Any]) -> list[dict[str, Any]] | None:
        if message["method"] == "subscribe":
            asked.append(message)
            return [] if len(asked) == 2 else None
        return None

    async def second() -> None:
        async with client.subscribe("a") as events:
            assert offsets(await some(events, 1)) == [1]
            assert hub.calls("unsubscribe") == []
            late.set()

    async with scripted_hub(answer) as hub, connect(hub.url) as client:
        async with client.subscribe("a"):
            other = asyncio.create_task(second())
            await hub.wait_for("subscribe", 2)
        await hub.send(subscribed(asked[1]), event("a", 1))
        await asyncio.wait_for(other, PATIENCE)
        assert late.is_set()


async def test_several_topics_in_one() -> None:
    async with scripted_hub() as hub, connect(hub.url) as client:
        async with client.subscribe("jobs.*", "logs", "jobs.1", "logs") as events:
            assert events.topics == ("jobs.*", "logs"), "what another one covers is not asked for"
            await hub.send(event("logs", 1), event("jobs.1", 1), event("jobs.1", 2), event("jobs.1.x", 1))
            await hub.send(event("logs", 2))
            assert [item.topic for item in await some(events, 4)] == ["logs", "jobs.1", "jobs.1", "logs"]
        assert sorted(message["params"]["topic"] for message in hub.calls("unsubscribe")) == ["jobs.*", "logs"]


async def test_when_the_second_topic_is_refused_the_first_is_given_back() -> None:
    def answer(message: dict[str, Any]) -> list[dict[str, Any]] | None:
        wrong = message["method"] == "subscribe" and message["params"]["topic"] == "b"
        return [refused(message, 6002, "not b")] if wrong else None

    async with scripted_hub(answer) as hub, connect(hub.url) as client:
        with pytest.raises(RpcError, match="not b"):
            async with client.subscribe("a", "b"):
                pass
        assert {"topic": "a"} in [message["params"] for message in hub.calls("unsubscribe")]


# --- publishing ---


async def test_publish_sends_what_was_given_and_returns_the_position() -> None:
    def answer(message: dict[str, Any]) -> list[dict[str, Any]]:
        return [{"jsonrpc": "2.0", "id": message["id"], "result": {"topic": "a", "epoch": "e1", "offset": 9}}]

    async with scripted_hub(answer) as hub, connect(hub.url) as client:
        assert await client.publish("a", {"n": 1}) == Position("e1", 9)
        assert await client.publish("a", None, idempotency_key="k") == Position("e1", 9)
    assert [message["params"] for message in hub.received] == [
        {"topic": "a", "data": {"n": 1}},
        {"topic": "a", "data": None, "idempotency_key": "k"},
    ]


# --- the connection ends ---


async def test_a_cut_raises_after_what_had_arrived() -> None:
    async with scripted_hub() as hub, connect(hub.url, reconnect=False) as client, client.subscribe("a") as events:
        await hub.send(event("a", 1), event("a", 2))
        await client.call("rpc.ping", {"topic": "a"})
        await hub.cut()
        assert offsets(await some(events, 2)) == [1, 2]
        with pytest.raises(DisconnectedError, match="lost"):
            await some(events, 1)
        assert events.position == Position("e1", 2)


async def test_a_reader_that_waits_is_told_of_the_cut() -> None:
    async with scripted_hub() as hub, connect(hub.url, reconnect=False) as client, client.subscribe("a") as events:
        reading = asyncio.create_task(collect(events))
        await asyncio.sleep(0)
        await hub.cut()
        with pytest.raises(DisconnectedError):
            await asyncio.wait_for(reading, PATIENCE)


@pytest.mark.parametrize("away", [False, True])
async def test_closing_ends_loops_without_an_error_after_what_had_arrived(away: bool) -> None:
    async with (
        scripted_hub() as hub,
        connect(hub.url, reconnect=Reconnect(60, 60)) as client,
        client.subscribe("a") as waiting,
        client.subscribe("a") as unread,
    ):
        reading = asyncio.create_task(collect(waiting))
        await hub.send(event("a", 1), event("a", 2))
        await client.call("rpc.ping", {"topic": "a"})
        if away:
            lost = asyncio.Event()
            client.on_connection_state(lambda _change: lost.set())
            await hub.cut()
            await asyncio.wait_for(lost.wait(), PATIENCE)
        await client.close()
        assert offsets(await asyncio.wait_for(reading, PATIENCE)) == [1, 2]
        assert offsets(await asyncio.wait_for(collect(unread), PATIENCE)) == [1, 2]


async def test_a_loop_may_close_the_client_that_it_reads_from() -> None:
    async with scripted_hub() as hub, connect(hub.url) as client, client.subscribe("a") as events:
        await hub.send(event("a", 1), event("a", 2))
        seen = []
        async for item in events:
            seen.append(item)
            await client.close()
        assert offsets(seen) == [1, 2]


async def test_a_cut_before_the_reply_raises() -> None:
    async with scripted_hub(lambda message: []) as hub, connect(hub.url, reconnect=False) as client:
        entering = asyncio.create_task(client.subscribe("a").__aenter__())
        await hub.wait_for("subscribe")
        await hub.cut()
        with pytest.raises(DisconnectedError):
            await asyncio.wait_for(entering, PATIENCE)


# --- it comes again ---


async def test_after_a_cut_each_topic_goes_on_from_what_all_its_readers_have() -> None:
    def answer(message: dict[str, Any]) -> list[dict[str, Any]] | None:
        if message["method"] != "subscribe":
            return None
        recover = message["params"].get("recover")
        if recover is None:
            return [subscribed(message, 5)]
        return [subscribed(message, recover["offset"], recovered=True)]

    async with (
        scripted_hub(answer) as hub,
        connect(hub.url, reconnect=QUICK) as client,
        client.subscribe("a") as ahead,
        client.subscribe("a", recover=Position("e1", 3)) as behind,
    ):
        await hub.send(event("a", 6))
        assert offsets(await some(ahead, 1)) == [6]
        await hub.cut()
        again = await hub.wait_for("subscribe", 3)
        assert again["params"] == {"topic": "a", "recover": {"epoch": "e1", "offset": 3}}
        await hub.send(*(event("a", offset) for offset in range(4, 8)))
        assert offsets(await some(behind, 4)) == [4, 5, 6, 7]
        assert offsets(await some(ahead, 1)) == [7]
        assert len(hub.calls("subscribe")) == 3, "it asks once for both"


async def test_where_the_hub_refuses_a_topic_later_its_readers_are_told() -> None:
    def answer(message: dict[str, Any]) -> list[dict[str, Any]] | None:
        if message["method"] != "subscribe" or len(hub.calls("subscribe")) == 1:
            return None
        return [refused(message, 6002, "not any more")]

    async with (
        scripted_hub(answer) as hub,
        connect(hub.url, reconnect=QUICK) as client,
        client.subscribe("a") as events,
    ):
        await hub.cut()
        with pytest.raises(RpcError, match="not any more"):
            await some(events, 1)


async def test_where_the_hub_says_later_it_is_asked_later() -> None:
    def answer(message: dict[str, Any]) -> list[dict[str, Any]] | None:
        if message["method"] != "subscribe" or len(hub.calls("subscribe")) != 2:
            return None
        return [refused(message, 6003, "too often")]

    async with (
        scripted_hub(answer) as hub,
        connect(hub.url, reconnect=QUICK) as client,
        client.subscribe("a") as events,
    ):
        await hub.cut()
        await hub.wait_for("subscribe", 3)
        await hub.send(event("a", 1))
        assert offsets(await some(events, 1)) == [1]


@pytest.mark.parametrize(
    "nonsense",
    [
        {"jsonrpc": "2.0", "method": "event", "params": {"topic": "a"}},
        {"jsonrpc": "2.0", "method": "event.gap", "params": {}},
    ],
)
async def test_a_hub_that_talks_nonsense_is_left(nonsense: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    async with scripted_hub() as hub, connect(hub.url, reconnect=False) as client, client.subscribe("a") as events:
        await hub.send(nonsense)
        with pytest.raises(DisconnectedError):
            await some(events, 1)
        with pytest.raises(DisconnectedError):
            await asyncio.wait_for(client.call("rpc.ping"), PATIENCE)
    assert "reading from the hub failed" in caplog.text


async def test_a_reply_that_makes_no_sense_fails_its_own_call_only() -> None:
    def answer(message: dict[str, Any]) -> list[dict[str, Any]] | None:
        odd = message.get("params", {}).get("topic") == "odd" and message["method"] == "subscribe"
        return [{"jsonrpc": "2.0", "id": message["id"], "result": {}}] if odd else None

    async with scripted_hub(answer) as hub, connect(hub.url) as client, client.subscribe("a") as events:
        with pytest.raises(KeyError):
            await client.subscribe("odd").__aenter__()
        await hub.send(event("a", 1))
        assert offsets(await some(events, 1)) == [1]


async def test_closing_with_calls_in_flight_warns_of_nothing() -> None:
    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: complaints.append(context))

    def silent(message: dict[str, Any]) -> list[dict[str, Any]]:
        return [] if message["method"] == "wait" else agreeable(message)

    async with scripted_hub(silent) as hub:
        async with connect(hub.url) as client:
            waiting = [asyncio.create_task(client.call("wait")) for _ in range(3)]
            await hub.wait_for("wait", 3)
            waiting[0].cancel()
            closing = asyncio.create_task(client.close())
            late = [asyncio.create_task(client.call("late", {"x": "y" * 100_000})) for _ in range(20)]
            await closing
        outcomes = await asyncio.gather(*waiting, *late, return_exceptions=True)
    assert {type(outcome) for outcome in outcomes[1:]} == {DisconnectedError}
    del waiting, late, outcomes
    gc.collect()
    await asyncio.sleep(0)
    assert complaints == []
