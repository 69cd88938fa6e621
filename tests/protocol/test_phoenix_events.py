"""Events and the channels of one socket: each channel gets each event that it matches, once."""

from __future__ import annotations

import json

import pytest

from tests.hub.pubsub import PubSub
from tests.protocol.phoenix import PhoenixPeer
from trunkline_protocol.codecs.jsonrpc import encode_event, encode_gap
from trunkline_protocol.codecs.phoenix_events import EVENT, GAP, MAX_SEEN, EventCache, Published, Reader, Readers


@pytest.fixture
def hub() -> PubSub:
    return PubSub()


@pytest.fixture
def client(hub: PubSub) -> PhoenixPeer:
    return PhoenixPeer(hub)


def publish(hub: PubSub, topic: str, times: int = 1) -> None:
    for _ in range(times):
        hub.route("publish", topic=topic, data={"of": topic})


def test_channels_that_overlap_get_an_event_once_each(hub: PubSub, client: PhoenixPeer) -> None:
    for ref, topic in enumerate(("jobs.42", "jobs.*", ">", "jobs.43", "other")):
        client.join(f"topic:{topic}", str(ref))
    publish(hub, "jobs.42", 2)
    publish(hub, "jobs.43")
    assert sorted(client.events()) == [
        ("topic:>", 1), ("topic:>", 1), ("topic:>", 2), ("topic:jobs.*", 1), ("topic:jobs.*", 1), ("topic:jobs.*", 2),
        ("topic:jobs.42", 1), ("topic:jobs.42", 2), ("topic:jobs.43", 1),
    ]  # fmt: skip


def test_a_pattern_that_begins_with_a_wildcard_does_not_reach_system(client: PhoenixPeer, hub: PubSub) -> None:
    client.join("topic:>", "1")
    client.join("topic:system.metrics", "2")
    hub.topics.announce("system.metrics", {"connections": 1})
    assert client.events() == [("topic:system.metrics", 1)]


def test_a_channel_begins_after_its_join_although_others_still_wait_for_events(
    hub: PubSub, client: PhoenixPeer
) -> None:
    client.join("topic:jobs.*", "1")
    client.outbox.pause()
    publish(hub, "jobs.42", 2)
    client.send("2", "2", "topic:jobs.42", "phx_join", {})
    client.outbox.resume()
    assert [(message[2], message[3], message[4].get("offset")) for message in client.news()] == [
        ("topic:jobs.42", "phx_reply", None),
        ("topic:jobs.*", "event", 1),
        ("topic:jobs.*", "event", 2),
    ]
    publish(hub, "jobs.42")
    assert sorted(client.events()) == [("topic:jobs.*", 3), ("topic:jobs.42", 3)]


def test_what_one_channel_recovers_others_do_not_get_again(hub: PubSub, client: PhoenixPeer) -> None:
    client.join("topic:jobs.*", "1")
    publish(hub, "jobs.42", 3)
    epoch = client.news()[0][4]["epoch"]
    client.outbox.pause()
    publish(hub, "jobs.42", 2)  # these wait, and come with the replay
    client.send("2", "2", "topic:jobs.42", "phx_join", {"recover": {"epoch": epoch, "offset": 1}})
    client.outbox.resume()
    assert [(message[2], message[4].get("offset")) for message in client.news() if message[3] == "event"] == [
        ("topic:jobs.42", 2),
        ("topic:jobs.42", 3),
        ("topic:jobs.42", 4),
        ("topic:jobs.*", 4),
        ("topic:jobs.42", 5),
        ("topic:jobs.*", 5),
    ]


def test_gaps_reach_everybody_who_misses_something(hub: PubSub) -> None:
    client = PhoenixPeer(hub, event_limit=1000)
    client.join("topic:jobs.*", "1")
    client.join("topic:jobs.42", "2")
    client.outbox.pause()
    publish(hub, "jobs.42", 20)
    client.outbox.resume()
    seen: dict[str, int] = {}
    gaps = 0
    for _, _, topic, event, payload in client.news():
        first = payload["from"] if event == "event.gap" else payload["offset"]
        assert first == seen.get(topic, 0) + 1
        seen[topic] = payload["to"] if event == "event.gap" else payload["offset"]
        gaps += event == "event.gap"
    assert seen == {"topic:jobs.*": 20, "topic:jobs.42": 20}
    assert gaps == 2


def test_an_event_is_translated_once_for_all_sockets(hub: PubSub) -> None:
    events = EventCache()
    clients = [PhoenixPeer(hub, events=events) for _ in range(3)]
    for client in clients:
        client.join("topic:jobs")
    publish(hub, "jobs")
    first, *others = [client.socket.frames[-1] for client in clients]
    assert json.loads(first.payload)[3] == "event"
    assert all(other is first for other in others)


# --- the parts ---


def event(topic: str, offset: int, epoch: str = "e", data: bytes = b"1") -> bytes:
    return encode_event(topic, data, epoch, offset, 5)


def published(topic: str, offset: int, epoch: str = "e") -> Published:
    return EventCache().get(event(topic, offset, epoch))


def gap(topic: str, first: int, last: int, reason: str = "slow_consumer") -> Published:
    params = json.dumps(json.loads(encode_gap(topic, "e", first, last, None, reason))["params"])
    return Published(GAP, params.encode())


def readers(*patterns: str) -> Readers:
    made = Readers()
    for pattern in patterns:
        reader = Reader(f"topic:{pattern}", pattern, asks=True)
        reader.start(None if reader.is_pattern else "e", 0)
        made.add(reader)
    return made


def test_the_payload_is_what_was_published_byte_for_byte() -> None:
    frame = EventCache().get(event("jobs", 1, data=b'{"x" : 1.50}')).frame("topic:jobs")
    assert b'"data":{"x" : 1.50},' in frame.payload


def test_the_cache_keeps_so_many_bytes_and_always_the_last() -> None:
    small, large = event("jobs", 1), event("jobs", 2, data=b'"%b"' % (b"x" * 1000))
    cache = EventCache(limit=500)
    first = cache.get(small)
    assert cache.get(bytes(bytearray(small))) is first
    kept = cache.get(large)
    assert cache.get(large) is kept
    assert cache.get(small) is not first


def test_frames_for_many_different_patterns_are_not_all_kept() -> None:
    shared = published("jobs", 1)
    frames = [shared.frame(f"topic:{number}") for number in range(20)]
    again = [shared.frame(f"topic:{number}") for number in range(20)]
    assert again == frames
    assert sum(one is other for one, other in zip(frames, again, strict=True)) < 10


def test_a_new_epoch_counts_anew() -> None:
    both = readers("jobs", "*")
    assert len(both.deliver(published("jobs", 5))) == 2
    assert len(both.deliver(published("jobs", 5))) == 0
    assert len(both.deliver(published("jobs", 1, "f"))) == 2


@pytest.mark.parametrize("reason", ["history", "epoch"])
def test_what_cannot_be_recovered_concerns_who_asked(reason: str) -> None:
    both = readers("jobs", "*")
    (frame,) = both.deliver(gap("jobs", 1, 0, reason))
    assert json.loads(frame.payload)[2] == "topic:jobs"
    assert readers("*").deliver(gap("jobs", 1, 9, reason)) == []
    assert len(both.deliver(published("jobs", 1))) == 2


def test_what_an_earlier_channel_could_not_recover_is_no_gap_of_a_later_one(hub: PubSub, client: PhoenixPeer) -> None:
    client.send("1", "1", "topic:jobs", "phx_join", {"recover": {"epoch": "gone", "offset": 2}})
    publish(hub, "jobs")
    client.send("2", "2", "topic:jobs", "phx_join", {})
    assert [message[3] for message in client.news()] == ["phx_reply", "phx_reply"]


def test_a_gap_before_the_join_is_none() -> None:
    made = Readers()
    reader = Reader("topic:jobs", "jobs")
    reader.start("e", 9)
    made.add(reader)
    assert made.deliver(gap("jobs", 1, 9)) == []
    assert len(made.deliver(gap("jobs", 5, 12))) == 1
    assert made.deliver(published("jobs", 12)) == []


def test_of_how_many_topics_patterns_remember_the_position_is_bounded() -> None:
    made = readers(">")
    for number in range(MAX_SEEN + 1):
        assert made.deliver(published(f"t.{number}", 1))
    assert made.deliver(published(f"t.{MAX_SEEN}", 1)) == []
    assert made.deliver(published("t.1", 1)) == []
    assert len(made.deliver(published("t.0", 1))) == 1  # forgotten: such a replay comes twice


def test_who_left_gets_nothing() -> None:
    made = Readers()
    exact, wild = Reader("topic:jobs", "jobs"), Reader("topic:*", "*")
    for reader in (exact, wild):
        made.add(reader)
        made.remove(reader)
    assert made.deliver(published("jobs", 1)) == []
    assert made.deliver(gap("jobs", 1, 2, "history")) == []
    made.add(wild)
    assert len(made.deliver(published("jobs", 1))) == 1


def test_the_form_of_events_is_the_one_that_is_cached() -> None:
    client = PhoenixPeer(PubSub())
    client.join("topic:jobs")
    (first,), (second,) = (client.dialect.send(event("jobs", number)) for number in (1, 2))
    assert json.loads(first.payload)[3] == EVENT
    assert client.dialect.send(event("jobs", 2)) == []
    assert second is client.dialect._events.get(event("jobs", 2)).frame("topic:jobs")
