"""Channels of names that are configured: what is pushed on them arrives as it was pushed, at everybody who joined."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.hub.pubsub import PubSub
from tests.protocol.phoenix import UNMATCHED, PhoenixPeer, binary_broadcast, binary_push
from trunkline.broker.common import HistoryLimits
from trunkline.hub.principal import Principal
from trunkline_protocol.codecs.phoenix_names import ChannelNames, require_channels
from trunkline_protocol.errors import ErrorCode
from trunkline_protocol.topics import valid_topic

NAMES = ("room:*", "lobby")


@pytest.fixture
def hub() -> PubSub:
    return PubSub()


def client(hub: PubSub, principal: Principal | None = None, **more: Any) -> PhoenixPeer:
    return PhoenixPeer(hub, principal or Principal("ann"), names=NAMES, **more)


def broadcast(channel: str, event: str, payload: Any) -> list[Any]:
    return [None, None, channel, event, payload]


# --- names ---


@pytest.mark.parametrize(
    ("channel", "topic"),
    [
        ("room:42", "room.42"), ("room:a:b", "room.a.b"), ("room:v1.2", "room.v1%2E2"), ("room:a b", "room.a%20b"),
        ("room:100%", "room.100%25"), ("room:*", "room.%2A"), ("room:>", "room.%3E"), ("room:é", "room.é"),
        ("lobby", "lobby"), ("lobby:1", None), ("rooms:1", None), ("room", None), ("phoenix", None),
        ("topic:room", None), ("rpc:room", None),
    ],
)  # fmt: skip
def test_the_topic_of_a_name(channel: str, topic: str | None) -> None:
    assert ChannelNames(NAMES).topic_of(channel) == topic


@given(st.lists(st.text(max_size=8), min_size=2, max_size=2, unique=True))
def test_no_two_names_have_one_topic_and_none_is_a_pattern(names: list[str]) -> None:
    every = ChannelNames(["*"])
    topics = [topic for name in names if (topic := every.topic_of(name)) is not None]
    assert len(set(topics)) == len(topics)
    for topic in topics:
        assert valid_topic(topic) or "" in topic.split(".")


@pytest.mark.parametrize("pattern", ["", "a*b", "**", " room", "room:* ", "topic:*", "rpc:a", "phoenix"])
def test_what_no_channel_could_be_is_no_setting(pattern: str) -> None:
    with pytest.raises(ValueError, match=r"channel|taken"):
        require_channels((pattern,))


@pytest.mark.parametrize("pattern", ["*", "room:*", "lobby", "user:42:*"])
def test_what_a_channel_could_be_is_one(pattern: str) -> None:
    assert require_channels((pattern,)) == (pattern,)


# --- events ---


def test_a_push_arrives_as_its_event_at_all_that_joined_and_is_answered_ok(hub: PubSub) -> None:
    sender, other = client(hub), client(hub)
    assert sender.join("room:42")["topic"] == "room.42"
    other.join("room:42", payload={"nick": "bob"})
    sender.send("1", "2", "room:42", "new_msg", {"body": "hi"})
    news = sender.news()
    assert broadcast("room:42", "new_msg", {"body": "hi"}) in news
    assert ["1", "2", "room:42", "phx_reply", {"status": "ok", "response": {}}] in news
    assert len(news) == 2
    assert other.news() == [broadcast("room:42", "new_msg", {"body": "hi"})]


def test_other_clients_of_the_hub_read_what_is_pushed_and_publish_the_same(hub: PubSub) -> None:
    channel, plain = client(hub), client(hub)
    channel.join("room:42")
    plain.join("topic:room.*")
    channel.send("1", "2", "room:42", "new_msg", [1])
    [event] = [message for message in plain.news() if message[3] == "event"]
    assert (event[4]["topic"], event[4]["data"]) == ("room.42", {"event": "new_msg", "payload": [1]})
    channel.news()
    hub.route("publish", topic="room.42", data={"event": "typing", "payload": {"who": "ann"}})
    assert channel.news() == [broadcast("room:42", "typing", {"who": "ann"})]


@pytest.mark.parametrize(
    "data",
    [7, {}, {"event": "a"}, {"event": 1, "payload": 1}, {"event": "a", "payload": 1, "more": 1},
     {"event": "phx_close", "payload": {}}, {"event": "phx_reply", "payload": {}},
     {"event": "event.gap", "payload": {}}, {"event": "event", "payload": {}}],
)  # fmt: skip
def test_other_data_and_reserved_names_arrive_as_an_event_with_its_params(hub: PubSub, data: Any) -> None:
    """Nobody who may publish can close the channels of others, or have them believe in a gap."""
    channel = client(hub)
    channel.join("room:42")
    hub.route("publish", topic="room.42", data=data)
    [[_, _, name, event, payload]] = channel.news()
    assert (name, event, payload["data"], payload["offset"]) == ("room:42", "event", data, 1)


@pytest.mark.parametrize("event", ["event", "event.gap", "phx_error2", "access_token"])
def test_a_push_of_a_reserved_name_is_refused(hub: PubSub, event: str) -> None:
    channel = client(hub)
    channel.join("room:42")
    assert event in channel.refused("1", "2", "room:42", event, {})["message"]


def test_a_push_without_a_ref_is_published_and_not_answered(hub: PubSub) -> None:
    channel = client(hub)
    channel.join("lobby")
    channel.send("1", None, "lobby", "shout", {})
    assert channel.news() == [broadcast("lobby", "shout", {})]


def test_bytes_are_pushed_and_arrive_as_bytes_where_the_transport_has_them(hub: PubSub) -> None:
    sender, polling = client(hub), client(hub, takes_binary=False)
    sender.join("room:42")
    polling.join("room:42")
    sender.send_raw(binary_push("1", "2", "room:42", "frame", b"\x00\xff"), binary=True)
    assert binary_broadcast("room:42", "frame", b"\x00\xff") in sender.news()
    assert polling.news() == [broadcast("room:42", "frame", {"$bytes": base64.b64encode(b"\x00\xff").decode()})]


def test_rights_are_those_of_the_topic(hub: PubSub) -> None:
    reader = client(hub, Principal("ann", subscribe=("room.42",), publish=()))
    reader.refused("1", "1", "room:43", "phx_join", {}, code=ErrorCode.FORBIDDEN)
    reader.join("room:42")
    reader.refused("1", "2", "room:42", "new_msg", {}, code=ErrorCode.FORBIDDEN)


def test_a_name_with_an_empty_part_is_refused_in_words(hub: PubSub) -> None:
    error = client(hub).refused("1", "1", "room:", "phx_join", {}, code=ErrorCode.INVALID_PARAMS)
    assert "room." in error["message"]


def test_names_that_are_not_configured_are_unmatched(hub: PubSub) -> None:
    assert client(hub).ask("1", "1", "chat:1", "phx_join", {}) == ("error", UNMATCHED)


def test_one_topic_has_one_channel_of_a_socket(hub: PubSub) -> None:
    channel = client(hub)
    channel.join("room:42")
    error = channel.refused("2", "2", "topic:room.42", "phx_join", {})
    assert "room:42" in error["message"]
    channel.send("1", "3", "room:42", "phx_leave", {})
    channel.news()
    channel.join("topic:room.42", "4")
    channel.refused("5", "5", "room:42", "phx_join", {})
    hub.route("publish", topic="room.42", data=1)
    assert channel.events() == [("topic:room.42", 1)]


def test_a_gap_is_announced() -> None:
    hub = PubSub(HistoryLimits(events=1))
    first = client(hub)
    at = first.join("room:42")
    for n in range(3):
        hub.route("publish", topic="room.42", data={"event": "e", "payload": n})
    second = client(hub)
    second.send("1", "1", "room:42", "phx_join", {"recover": {"epoch": at["epoch"], "offset": 0}})
    news = second.news()
    [gap] = [message for message in news if message[3] == "event.gap"]
    assert (gap[2], gap[4]["topic"], gap[4]["from"], gap[4]["to"]) == ("room:42", "room.42", 1, 3)
