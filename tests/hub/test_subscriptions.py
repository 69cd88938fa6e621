"""``subscribe``, ``unsubscribe``, ``publish`` and what they lead to (who may, and what: test_publish_refusals.py)."""

from __future__ import annotations

from typing import Any

import pytest

from tests.hub.pubsub import PubSub
from tests.support.match import require
from trunkline.broker.common import HistoryLimits
from trunkline.hub.fanout import AT_ONCE
from trunkline_protocol.errors import ErrorCode


@pytest.fixture
def hub() -> PubSub:
    return PubSub()


def error(code: ErrorCode, *words: str) -> dict[str, Any]:
    return {"code": code, "message": {"$contains": words[0] if words else ""}}


def publish(hub: PubSub, *topics: str, data: Any = 1) -> None:
    for topic in topics:
        assert hub.route("publish", topic=topic, data=data).error is None


# --- subscribe ---


def test_the_reply_says_where_it_begins(hub: PubSub) -> None:
    peer = hub.peer()
    begun = peer.subscribe("a")
    assert begun == {"topic": "a", "epoch": begun["epoch"], "offset": 0, "recovered": False}
    publish(hub, "b", "b", "b")
    assert peer.subscribe("b")["offset"] == 3
    publish(hub, "b")
    assert peer.events() == [("b", 4)]


def test_an_event_is_what_was_published(hub: PubSub) -> None:
    peer = hub.peer()
    epoch = peer.subscribe("jobs.42")["epoch"]
    peer.request("publish", topic="jobs.42", data={"x": [1, "ü", None]})
    at = int(hub.clock.day * 1000)
    event, reply = sorted(peer.news(), key=lambda item: "result" in item)
    assert reply["result"] == {"topic": "jobs.42", "epoch": epoch, "offset": 1}
    said = {"data": {"x": [1, "ü", None]}, "published_at": at, "publisher": "anonymous"}
    assert event == {"topic": "jobs.42", "epoch": epoch, "offset": 1, **said}


def test_published_bytes_come_as_they_went(hub: PubSub) -> None:
    peer = hub.peer()
    peer.subscribe("t")
    peer.news()
    data = b'{ "n" : 123456789012345678901234567890, "f":1.10 , "s":"\\u00fc" }'
    params = b'{"data":%b,"topic":"t"}' % data
    peer.connection.receive(b'{"jsonrpc":"2.0","method":"publish","params":%b}' % params)
    assert data in peer.door.messages[-1]


def test_only_who_subscribed_gets_it(hub: PubSub) -> None:
    one, other, neither = hub.peer(), hub.peer(), hub.peer()
    one.subscribe("a")
    other.subscribe("b")
    publish(hub, "a", "b", "c")
    assert (one.events(), other.events(), neither.events()) == ([("a", 1)], [("b", 1)], [])


def test_a_pattern_has_no_position(hub: PubSub) -> None:
    peer = hub.peer()
    begun = peer.subscribe("jobs.*")
    as_of = begun.pop("as_of")
    assert begun == {"topic": "jobs.*", "epoch": None, "offset": 0, "recovered": False}
    assert (as_of["offset"], type(as_of["epoch"])) == (0, str)
    publish(hub, "jobs.1", "jobs.2", "jobs.1", "jobs", "jobs.1.done")
    assert peer.events() == [("jobs.1", 1), ("jobs.2", 1), ("jobs.1", 2)]


def test_overlapping_subscriptions_deliver_once(hub: PubSub) -> None:
    peer = hub.peer()
    for topic in ("a.b", "a.*", "a.>", ">"):
        peer.subscribe(topic)
    publish(hub, "a.b", "a.c", "x")
    assert peer.events() == [("a.b", 1), ("a.c", 1), ("x", 1)]
    for topic in ("a.b", "a.>", ">"):
        assert peer.unsubscribe(topic)
    publish(hub, "a.b", "a.c", "x")
    assert peer.events() == [("a.b", 2), ("a.c", 2)]


def test_subscribing_again_changes_nothing(hub: PubSub) -> None:
    peer = hub.peer()
    peer.subscribe("a")
    publish(hub, "a")
    assert peer.events() == [("a", 1)]
    assert peer.subscribe("a")["offset"] == 1
    assert hub.topics.count == 1
    publish(hub, "a")
    assert peer.events() == [("a", 2)]
    assert peer.unsubscribe("a")
    assert not peer.unsubscribe("a")


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"topic": 5},
        {"topic": None},
        {"topic": "a", "more": 1},
        {"topic": "a", "recover": 5},
        {"topic": "a", "recover": {}},
        {"topic": "a", "recover": {"epoch": "e"}},
        {"topic": "a", "recover": {"epoch": 1, "offset": 1}},
        {"topic": "a", "recover": {"epoch": "e", "offset": "1"}},
        {"topic": "a", "recover": {"epoch": "e", "offset": 1.5}},
        {"topic": "a", "recover": {"epoch": "e", "offset": -1}},
        {"topic": "a", "recover": {"epoch": None, "offset": 0}},
        {"topic": ""},
        {"topic": "a..b"},
        {"topic": "a b"},
        {"topic": "a.>.b"},
        {"topic": "a*"},
        {"topic": "x" * 257},
    ],
)
def test_what_is_no_subscription(hub: PubSub, params: dict[str, Any]) -> None:
    peer = hub.peer()
    require(error(ErrorCode.INVALID_PARAMS), peer.error("subscribe", **params))
    assert hub.topics.count == 0
    assert peer.connection.subscriptions == {}


def test_by_position_is_refused(hub: PubSub) -> None:
    peer = hub.peer()
    for method, params in (("subscribe", ["a"]), ("unsubscribe", ["a"]), ("publish", ["a", 1])):
        peer.send({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
        require([{"error": error(ErrorCode.INVALID_PARAMS, method)}], peer.news())


def test_a_null_recover_is_none(hub: PubSub) -> None:
    assert hub.peer().result("subscribe", topic="a", recover=None)["recovered"] is False


def test_so_many_subscriptions_and_no_more() -> None:
    hub = PubSub(max_subscriptions=2)
    peer, other = hub.peer(), hub.peer()
    peer.subscribe("a")
    peer.subscribe("b.*")
    refused = peer.error("subscribe", topic="c")
    require(error(ErrorCode.RESOURCE_EXHAUSTED, "2 subscriptions"), refused)
    assert refused["data"]["limit"] == "TRUNKLINE_MAX_SUBSCRIPTIONS"
    assert "retry_after_ms" not in refused["data"], "it does not pass by itself"
    peer.subscribe("a")
    other.subscribe("c")
    peer.unsubscribe("a")
    peer.subscribe("c")
    publish(hub, "c")
    assert peer.events() == [("c", 1)]


@pytest.mark.parametrize("method", ["subscribe", "unsubscribe"])
def test_not_in_a_batch(hub: PubSub, method: str) -> None:
    peer = hub.peer()
    publishing = {"jsonrpc": "2.0", "id": 2, "method": "publish", "params": {"topic": "a", "data": 1}}
    peer.send([{"jsonrpc": "2.0", "id": 1, "method": method, "params": {"topic": "a"}}, publishing])
    (reply,) = peer.door.said()
    require([{"id": 1, "error": error(ErrorCode.INVALID_REQUEST, method)}, {"id": 2, "result": {"offset": 1}}], reply)
    assert peer.connection.subscriptions == {}


@pytest.mark.parametrize("method", ["subscribe", "unsubscribe"])
def test_not_as_a_notification(hub: PubSub, method: str) -> None:
    peer = hub.peer()
    peer.notify(method, topic="a")
    peer.send([{"jsonrpc": "2.0", "method": method, "params": {"topic": "a"}}])
    assert peer.news() == []
    assert hub.topics.count == 0
    assert hub.finished == [(method, ErrorCode.INVALID_REQUEST)] * 2


@pytest.mark.parametrize("method", ["subscribe", "unsubscribe"])
def test_not_by_a_method(hub: PubSub, method: str) -> None:
    refused = hub.route(method, topic="a").error
    assert refused is not None
    assert refused.code == ErrorCode.INVALID_REQUEST


# --- recover ---


def test_recover_replays_and_goes_on(hub: PubSub) -> None:
    publish(hub, "a", "a", "a", "b")
    peer = hub.peer()
    epoch = hub.peer().subscribe("a")["epoch"]
    peer.request("subscribe", topic="a", recover={"epoch": epoch, "offset": 1})
    publish(hub, "a")
    reply, *events = peer.news()
    assert reply["result"] == {"topic": "a", "epoch": epoch, "offset": 1, "recovered": True}
    assert [(event["topic"], event["offset"]) for event in events] == [("a", 2), ("a", 3), ("a", 4)]


def test_recover_where_nothing_was_missed(hub: PubSub) -> None:
    peer = hub.peer()
    begun = peer.subscribe("a")
    again = hub.peer()
    assert again.subscribe("a", epoch=begun["epoch"], offset=0)["recovered"] is True
    assert again.news() == []


def test_what_is_too_old_is_announced() -> None:
    hub = PubSub(HistoryLimits(events=2))
    publish(hub, *"aaaaa")
    epoch = hub.peer().subscribe("a")["epoch"]
    peer = hub.peer()
    peer.request("subscribe", topic="a", recover={"epoch": epoch, "offset": 1})
    publish(hub, "a")
    reply, gap, event = peer.news()
    assert reply["result"] == {"topic": "a", "epoch": epoch, "offset": 5, "recovered": False}
    assert gap == {"topic": "a", "epoch": epoch, "from": 2, "to": 5, "count": 4, "reason": "history"}
    assert event["offset"] == 6


def test_another_epoch_is_announced(hub: PubSub) -> None:
    publish(hub, "a", "a")
    peer = hub.peer()
    peer.request("subscribe", topic="a", recover={"epoch": "old", "offset": 7})
    reply, gap = peer.news()
    epoch = reply["result"]["epoch"]
    assert reply["result"] == {"topic": "a", "epoch": epoch, "offset": 2, "recovered": False}
    assert gap == {"topic": "a", "epoch": epoch, "from": 1, "to": 2, "reason": "epoch"}


def test_a_huge_offset_is_no_crash(hub: PubSub) -> None:
    epoch = hub.peer().subscribe("a")["epoch"]
    peer = hub.peer()
    peer.request("subscribe", topic="a", recover={"epoch": epoch, "offset": 10**30})
    assert peer.news()[0]["result"]["recovered"] is False


def test_subscribing_again_with_a_position_replays(hub: PubSub) -> None:
    peer = hub.peer()
    epoch = peer.subscribe("a")["epoch"]
    publish(hub, "a", "a")
    assert peer.events() == [("a", 1), ("a", 2)]
    peer.request("subscribe", topic="a", recover={"epoch": epoch, "offset": 0})
    assert peer.events() == [("a", 1), ("a", 2)]
    assert hub.topics.count == 1


def test_a_replay_and_an_event_that_is_being_handed_out_are_no_duplicate(hub: PubSub) -> None:
    crowd = [hub.peer() for _ in range(AT_ONCE + 1)]
    for each in crowd:
        epoch = each.subscribe("a")["epoch"]
    publish(hub, "a")
    late = hub.peer()
    late.request("subscribe", topic="a", recover={"epoch": epoch, "offset": 0})
    publish(hub, "a")
    assert crowd[0].events() == [], "it waits for the loop's next turn"
    hub.turn()
    assert late.events() == [("a", 1), ("a", 2)]
    assert crowd[0].events() == [("a", 1), ("a", 2)]


# --- unsubscribe ---


def test_unsubscribe_says_whether_there_was_one(hub: PubSub) -> None:
    peer = hub.peer()
    peer.subscribe("a.*")
    assert peer.result("unsubscribe", topic="a.b") == {"topic": "a.b", "unsubscribed": False}
    assert peer.result("unsubscribe", topic="a.*") == {"topic": "a.*", "unsubscribed": True}
    publish(hub, "a.b")
    assert peer.news() == []


def test_unsubscribe_of_what_cannot_be(hub: PubSub) -> None:
    assert hub.peer().result("unsubscribe", topic="..")["unsubscribed"] is False
    require(error(ErrorCode.INVALID_PARAMS, "topic"), hub.peer().error("unsubscribe"))


def test_nothing_comes_behind_the_reply(hub: PubSub) -> None:
    peer = hub.peer()
    for topic in ("a", "b", "b.*"):
        peer.subscribe(topic)
    peer.door.outbox.pause()
    publish(hub, "a", "b", "b.c", "a", "a")
    peer.request("unsubscribe", topic="a")
    peer.door.outbox.resume()
    reply, *events = peer.news()
    assert reply["result"]["unsubscribed"]
    assert [(event["topic"], event["offset"]) for event in events] == [("b", 1), ("b.c", 1)]


def test_what_another_subscription_wants_still_comes(hub: PubSub) -> None:
    peer = hub.peer()
    peer.subscribe("a.b")
    peer.subscribe("a.>")
    peer.door.outbox.pause()
    publish(hub, "a.b")
    peer.request("unsubscribe", topic="a.b")
    peer.door.outbox.resume()
    assert peer.events() == [("a.b", 1)]


def test_what_is_being_handed_out_stops(hub: PubSub) -> None:
    crowd = [hub.peer() for _ in range(AT_ONCE + 1)]
    for each in crowd:
        each.subscribe("a")
    publish(hub, "a")
    assert crowd[0].unsubscribe("a")
    hub.turn()
    assert crowd[0].events() == []
    assert crowd[1].events() == [("a", 1)]


def test_who_leaves_is_forgotten(hub: PubSub) -> None:
    peer, other = hub.peer(), hub.peer()
    for topic in ("a", "a.*", "system.metrics"):
        peer.subscribe(topic)
    other.subscribe("a")
    peer.connection.disconnected()
    assert hub.topics.count == 1
    publish(hub, "a", "a.b")
    assert (peer.news(), other.events()) == ([], [("a", 1)])
    assert not hub.topics.reaches("a.b")
    assert hub.interest == 2


# --- publish ---


def test_publish_is_answered_with_its_place(hub: PubSub) -> None:
    peer = hub.peer()
    first = peer.result("publish", topic="a", data=None)
    assert first == {"topic": "a", "epoch": first["epoch"], "offset": 1}
    assert peer.result("publish", topic="a", data=[])["offset"] == 2
    assert peer.news() == [], "nobody subscribed"


def test_the_same_key_is_published_once(hub: PubSub) -> None:
    peer = hub.peer()
    peer.subscribe("a")
    hub.peer().result("publish", topic="a", data=1, idempotency_key="k")
    answer = hub.peer().result("publish", topic="a", data=2, idempotency_key="k")
    assert answer["offset"] == 1
    assert [event["data"] for event in peer.news()] == [1]
    hub.clock.pass_by(301)
    assert hub.peer().result("publish", topic="a", data=2, idempotency_key="k")["offset"] == 2


def test_publish_as_a_notification(hub: PubSub) -> None:
    peer = hub.peer()
    peer.subscribe("a")
    peer.notify("publish", topic="a", data=7)
    peer.send([{"jsonrpc": "2.0", "method": "publish", "params": {"topic": "a", "data": 8}}])
    assert [event["data"] for event in peer.news()] == [7, 8]
    peer.notify("publish", topic="a..b", data=1)
    assert peer.news() == []
    assert hub.finished[-1] == ("publish", ErrorCode.INVALID_PARAMS)
    assert peer.connection.notifications == 0


def test_publish_by_a_method_or_the_hub(hub: PubSub) -> None:
    peer = hub.peer()
    peer.subscribe("a")
    assert hub.route("publish", topic="a", data={"by": "method"}).result["offset"] == 1
    assert peer.events() == [("a", 1)]
    refused = hub.route("publish", topic="a.*", data=1).error
    assert refused is not None
    assert refused.code == ErrorCode.INVALID_PARAMS
