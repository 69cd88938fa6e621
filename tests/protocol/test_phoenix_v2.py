"""The socket, joining and leaving, and channels for topics: the dialect in front of a hub in memory."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from tests.hub.pubsub import PubSub
from tests.protocol.phoenix import UNMATCHED, PhoenixPeer, binary_push, reply
from trunkline.hub.principal import ANONYMOUS, Principal
from trunkline_protocol.errors import ErrorCode, RpcError


@pytest.fixture
def hub() -> PubSub:
    return PubSub()


@pytest.fixture
def client(hub: PubSub) -> PhoenixPeer:
    return PhoenixPeer(hub)


# --- the socket ---


def test_heartbeat(client: PhoenixPeer) -> None:
    client.send(None, "5", "phoenix", "heartbeat", {})
    assert client.one() == reply(None, "5", "phoenix", {})


@pytest.mark.parametrize(
    "message",
    [
        [None, "1", "phoenix", "other", {}],
        ["1", "1", "room:lobby", "phx_join", {}],
        ["1", "2", "room:lobby", "anything", {}],
        ["1", "2", "topic:jobs", "publish", {}],
        ["1", "2", "rpc:a", "work.do", {}],
        ["1", "1", "topic", "phx_join", {}],
    ],
)
def test_unknown_topics_and_topics_that_are_not_joined(client: PhoenixPeer, message: list[Any]) -> None:
    client.send(*message)
    assert client.one() == reply(None, message[1], message[2], UNMATCHED, "error")


def test_no_json_is_answered_and_the_socket_lives(client: PhoenixPeer) -> None:
    client.send_raw(b"{nonsense")
    join_ref, ref, topic, event, payload = client.one()
    assert (join_ref, ref, topic, event, payload["status"]) == (None, None, "phoenix", "phx_reply", "error")
    assert payload["response"]["code"] == ErrorCode.PARSE_ERROR
    assert client.join("rpc:a") == {}


def test_a_malformed_message_is_answered_under_its_ref(client: PhoenixPeer) -> None:
    client.join("rpc:a")
    client.send("1", "2", "rpc:a", 17, {})
    join_ref, ref, topic, _, payload = client.one()
    assert (join_ref, ref, topic, payload["response"]["code"]) == ("1", "2", "rpc:a", ErrorCode.INVALID_REQUEST)


def test_what_cannot_be_read_at_all_is_refused_in_words(client: PhoenixPeer) -> None:
    (frame,) = client.dialect.refuse(RpcError(ErrorCode.INVALID_REQUEST, "too large"))
    assert json.loads(frame.payload)[:4] == [None, None, "phoenix", "phx_reply"]


# --- joining and leaving ---


def test_join_and_leave_calls(client: PhoenixPeer) -> None:
    client.send("1", "1", "rpc:a", "phx_join", {})
    assert client.one() == reply("1", "1", "rpc:a", {})
    client.send("1", "2", "rpc:a", "phx_leave", {})
    assert client.news() == [reply("1", "2", "rpc:a", {}), ["1", "1", "rpc:a", "phx_close", {}]]
    client.send("1", "3", "rpc:a", "work.do", {})
    assert client.one() == reply(None, "3", "rpc:a", UNMATCHED, "error")


def test_leaving_what_was_not_joined(client: PhoenixPeer) -> None:
    for topic in ("rpc:a", "topic:jobs", "room:lobby"):
        client.send("1", "2", topic, "phx_leave", {})
        assert client.one() == reply("1", "2", topic, {})


@pytest.mark.parametrize("refs", [(None, "1"), ("1", None), (None, None)])
def test_a_join_needs_its_refs(client: PhoenixPeer, refs: tuple[Any, Any]) -> None:
    client.send(*refs, "rpc:a", "phx_join", {})
    assert client.one()[4]["response"]["code"] == ErrorCode.INVALID_REQUEST
    assert client.ask("1", "2", "rpc:a", "work.do", {}) == ("error", UNMATCHED)


def test_stale_join_refs_are_ignored_and_null_is_accepted(hub: PubSub, client: PhoenixPeer) -> None:
    client.join("topic:jobs", "1")
    client.send("9", "2", "topic:jobs", "publish", {})
    client.send("9", "3", "topic:jobs", "phx_leave", {})
    assert client.news() == []
    client.send(None, "4", "topic:jobs", "publish", {})
    assert [message[1] for message in client.news()] == [None, "4"]
    client.send(None, "5", "topic:jobs", "phx_leave", {})
    assert client.news() == [reply("1", "5", "topic:jobs", {}), ["1", "1", "topic:jobs", "phx_close", {}]]
    assert hub.topics.count == 0


def test_refs_that_are_integers_are_echoed_as_such(client: PhoenixPeer) -> None:
    client.send(1, 1, "rpc:a", "phx_join", {})
    assert client.one() == reply(1, 1, "rpc:a", {})
    client.send("1", 2, "rpc:a", "phx_leave", {})
    assert client.news() == []
    client.send(1, 2, "rpc:a", "phx_leave", {})
    assert client.news()[0] == reply(1, 2, "rpc:a", {})


def test_the_channels_of_a_socket_are_limited(hub: PubSub) -> None:
    client = PhoenixPeer(hub, max_channels=2)
    client.join("rpc:a", "1")
    client.join("topic:jobs", "2")
    error = client.refused("3", "3", "rpc:b", "phx_join", {}, code=ErrorCode.RESOURCE_EXHAUSTED)
    assert error["data"]["limit"] == "TRUNKLINE_MAX_CHANNELS"
    client.send("4", "4", "rpc:a", "phx_join", {})
    assert [message[3] for message in client.news()] == ["phx_close", "phx_reply"]
    client.send("4", "5", "rpc:a", "phx_leave", {})
    client.news()
    client.join("rpc:b", "6")


@pytest.mark.parametrize("topic", ["topic:", "topic:a..b", "topic:a b", "topic:a.>.b", "topic:" + "a" * 257])
async def test_a_join_that_the_hub_refuses(client: PhoenixPeer, topic: str) -> None:
    client.send("1", "1", topic, "phx_join", {})
    error = client.one()[4]["response"]
    assert error["code"] in (ErrorCode.INVALID_PARAMS, ErrorCode.INVALID_REQUEST)
    assert client.ask("1", "2", "rpc:a", "publish", {}) == ("error", UNMATCHED)


def test_who_may_not_subscribe_is_refused_and_may_join_something_else(hub: PubSub) -> None:
    client = PhoenixPeer(hub, Principal("guest", subscribe=("public.>",)))
    client.refused("1", "1", "topic:secret", "phx_join", {}, code=ErrorCode.FORBIDDEN)
    assert client.ask("1", "2", "topic:secret", "publish", {}) == ("error", UNMATCHED)
    client.join("topic:public.news", "3")


def test_a_push_that_only_a_server_sends_ends_the_channel_and_it_may_be_joined_again(
    hub: PubSub, client: PhoenixPeer
) -> None:
    client.join("topic:jobs")
    client.send("1", "2", "topic:jobs", "phx_close", {})
    refusal, end = client.news()
    assert (refusal[1], refusal[4]["status"]) == ("2", "error")
    assert (end[:4], list(end[4])) == (["1", "1", "topic:jobs", "phx_error"], ["reason"])
    assert hub.topics.count == 0
    client.join("topic:jobs", "3")
    client.send("3", None, "topic:jobs", "phx_reply", {"status": "ok", "response": {}})
    assert client.one()[3] == "phx_error"


# --- topics ---


def test_a_topic_is_a_subscription(hub: PubSub, client: PhoenixPeer) -> None:
    position = client.join("topic:jobs.42")
    assert position == {"topic": "jobs.42", "epoch": position["epoch"], "offset": 0, "recovered": False}
    hub.route("publish", topic="jobs.42", data={"done": 7})
    join_ref, ref, topic, event, payload = client.one()
    assert (join_ref, ref, topic, event) == (None, None, "topic:jobs.42", "event")
    assert payload.pop("published_at") > 0
    assert payload == {"topic": "jobs.42", "data": {"done": 7}, "epoch": position["epoch"], "offset": 1}


def test_publish_publishes_its_payload(hub: PubSub, client: PhoenixPeer) -> None:
    epoch = client.join("topic:jobs")["epoch"]
    for offset, data in enumerate([{"a": 1}, [1, 2], "text", None, 0.5, {"topic": "x", "data": 1}], 1):
        client.send("1", "2", "topic:jobs", "publish", data)
        event, answer = client.news()
        assert answer == reply("1", "2", "topic:jobs", {"topic": "jobs", "epoch": epoch, "offset": offset})
        assert event[4]["data"] == data


def test_publish_without_a_ref_is_not_answered(client: PhoenixPeer) -> None:
    client.join("topic:jobs")
    client.send("1", None, "topic:jobs", "publish", {"a": 1})
    assert client.one()[3] == "event"


def test_bytes_are_published_as_json(client: PhoenixPeer) -> None:
    client.join("topic:jobs")
    client.send_raw(binary_push("1", "2", "topic:jobs", "publish", b"\x00\xff"), binary=True)
    assert client.news()[0][4]["data"] == {"$bytes": base64.b64encode(b"\x00\xff").decode()}


def test_topics_take_nothing_but_publish(client: PhoenixPeer) -> None:
    client.join("topic:jobs")
    error = client.refused("1", "2", "topic:jobs", "shout", {}, code=ErrorCode.METHOD_NOT_FOUND)
    assert "publish" in error["message"]


def test_a_pattern_may_be_joined_and_not_published_to(hub: PubSub, client: PhoenixPeer) -> None:
    assert client.join("topic:jobs.*")["epoch"] is None
    hub.route("publish", topic="jobs.1", data=1)
    assert client.events() == [("topic:jobs.*", 1)]
    client.refused("1", "2", "topic:jobs.*", "publish", {}, code=ErrorCode.INVALID_PARAMS)


def test_a_pattern_is_recovered(hub: PubSub, client: PhoenixPeer) -> None:
    as_of = client.join("topic:jobs.*")["as_of"]
    hub.route("publish", topic="jobs.2", data=2)
    again = PhoenixPeer(hub)
    again.send("1", "1", "topic:jobs.*", "phx_join", {"recover": as_of})
    answer, event = again.news()
    assert (answer[4]["response"]["recovered"], event[3], event[4]["data"]) == (True, "event", 2)
    again.send("2", "2", "topic:x.>", "phx_join", {"recover": {"epoch": "gone", "offset": 1}})
    assert again.news()[0][4]["response"]["recovered"] is False


def test_refused_publications_name_the_reason(hub: PubSub) -> None:
    client = PhoenixPeer(hub, Principal("reader", publish=()))
    client.join("topic:jobs")
    client.refused("1", "2", "topic:jobs", "publish", {}, code=ErrorCode.FORBIDDEN)


def test_recover_replays_what_was_missed(hub: PubSub, client: PhoenixPeer) -> None:
    epoch = client.join("topic:jobs")["epoch"]
    for data in range(5):
        hub.route("publish", topic="jobs", data=data)
    other = PhoenixPeer(hub)
    other.send("1", "1", "topic:jobs", "phx_join", {"recover": {"epoch": epoch, "offset": 2}, "more": 1})
    answer, *events = other.news()
    assert answer == reply("1", "1", "topic:jobs", {"topic": "jobs", "epoch": epoch, "offset": 2, "recovered": True})
    assert [message[4]["data"] for message in events] == [2, 3, 4]


def test_what_cannot_be_recovered_is_announced(hub: PubSub, client: PhoenixPeer) -> None:
    hub.route("publish", topic="jobs", data=1)
    client.join("topic:>", "1")
    client.send("2", "2", "topic:jobs", "phx_join", {"recover": {"epoch": "gone", "offset": 2}})
    answer, gap = client.news()
    assert (answer[4]["response"]["recovered"], answer[4]["response"]["offset"]) == (False, 1)
    assert gap[:4] == [None, None, "topic:jobs", "event.gap"]
    assert (gap[4]["from"], gap[4]["to"], gap[4]["reason"]) == (1, 1, "epoch")
    hub.route("publish", topic="jobs", data=2)
    assert sorted(client.events()) == [("topic:>", 2), ("topic:jobs", 2)]


@pytest.mark.parametrize("recover", [1, "x", [], {"epoch": 1}, {"epoch": "e", "offset": -1}])
def test_a_recover_that_makes_no_sense(client: PhoenixPeer, recover: Any) -> None:
    client.refused("1", "1", "topic:jobs", "phx_join", {"recover": recover}, code=ErrorCode.INVALID_PARAMS)


@pytest.mark.parametrize("payload", [None, [], "text", 1, {"recover": None}, {"user": 1}])
def test_whatever_else_a_join_says_is_ignored(client: PhoenixPeer, payload: Any) -> None:
    client.send("1", "1", "topic:jobs", "phx_join", payload)
    assert client.one()[4]["status"] == "ok"


def test_leaving_unsubscribes(hub: PubSub, client: PhoenixPeer) -> None:
    client.join("topic:jobs")
    hub.route("publish", topic="jobs", data=1)
    client.send("1", "2", "topic:jobs", "phx_leave", {})
    assert [message[3] for message in client.news()] == ["event", "phx_reply", "phx_close"]
    assert hub.topics.count == 0


def test_events_that_wait_when_a_channel_is_left_do_not_follow(hub: PubSub, client: PhoenixPeer) -> None:
    client.join("topic:jobs", "1")
    client.join("topic:*", "2")
    client.outbox.pause()
    hub.route("publish", topic="jobs", data=1)
    client.send("1", "3", "topic:jobs", "phx_leave", {})
    client.outbox.resume()
    assert [message[2:4] for message in client.news()] == [
        ["topic:jobs", "phx_reply"],
        ["topic:jobs", "phx_close"],
        ["topic:*", "event"],
    ]


def test_a_second_join_stops_the_first_channel(hub: PubSub, client: PhoenixPeer) -> None:
    epoch = client.join("topic:jobs", "1")["epoch"]
    hub.route("publish", topic="jobs", data=1)
    client.news()
    client.send("2", "2", "topic:jobs", "phx_join", {"recover": {"epoch": epoch, "offset": 0}})
    close, answer, event = client.news()
    assert close == ["1", "1", "topic:jobs", "phx_close", {}]
    assert answer[:3] == ["2", "2", "topic:jobs"]
    assert event[4]["offset"] == 1
    assert hub.topics.count == 1
    client.send("1", "3", "topic:jobs", "publish", {})
    assert client.news() == []


def test_a_join_that_is_not_answered_yet_is_when_the_topic_is_joined_again(hub: PubSub, client: PhoenixPeer) -> None:
    client.send("1", "1", "topic:jobs", "phx_join", {})
    client.send("2", "2", "topic:jobs", "phx_join", {})
    first, second = client.news()
    assert (first[:2], first[4]["status"]) == (["1", "1"], "error")
    assert first[4]["response"]["code"] == ErrorCode.CANCELLED
    assert (second[:2], second[4]["status"]) == (["2", "2"], "ok")
    client.send("2", "3", "topic:jobs", "phx_join", {})
    client.send("2", "4", "topic:jobs", "phx_leave", {})
    assert [message[1] for message in client.news()] == ["2", "3", "4"]
    assert hub.topics.count == 0


def test_what_the_hub_would_not_unsubscribe_is_tried_again(hub: PubSub) -> None:
    client = PhoenixPeer(hub, Principal("slow", rate=0.001))
    client.join("topic:jobs")
    client.send("1", "2", "topic:jobs", "phx_leave", {})
    assert [message[3] for message in client.news()] == ["phx_reply", "phx_close"]
    assert hub.topics.count == 1
    client.connection.become(ANONYMOUS)
    hub.route("publish", topic="jobs", data=1)
    assert client.news() == []
    client.send(None, "3", "phoenix", "heartbeat", {})
    client.news()
    assert hub.topics.count == 0
