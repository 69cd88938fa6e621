"""Patterns that are recovered: every event once and in order, or what is missing is told."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.hub.pubsub import Peer, PubSub
from tests.support.match import require
from trunkline.broker import memory
from trunkline.broker.common import HistoryLimits
from trunkline_protocol.errors import ErrorCode

PATTERN = "o.*"


class Reader:
    """What a client has of a pattern, over one connection after the other; only what the protocol tells."""

    def __init__(self, hub: PubSub) -> None:
        self.hub = hub
        self.events: list[tuple[str, str, int]] = []
        self.missing: set[tuple[str, str, int]] = set()
        self.topics: dict[str, dict[str, Any]] = {}
        self.peer: Peer | None = hub.peer()
        self.as_of = self.peer.subscribe(PATTERN)["as_of"]

    def read(self, number: int | None = None) -> None:
        """Take what came, or only the first of it: the rest is lost with the connection."""
        assert self.peer is not None
        self.take(self.peer.news()[:number])

    def take(self, items: list[dict[str, Any]]) -> None:
        for item in items:
            self.events.append((item["topic"], item["epoch"], item["offset"]))
            self.topics[item["topic"]] = {"epoch": item["epoch"], "offset": item["offset"]}

    def cut(self) -> None:
        assert self.peer is not None
        self.peer.connection.disconnected()
        self.peer = None

    def again(self, published: list[tuple[str, str, int]], number: int | None = None) -> dict[str, Any]:
        """Connect and recover; ``published`` is what there was so far, ``number`` how much of the replay arrives."""
        self.peer = self.hub.peer()
        self.peer.request("subscribe", topic=PATTERN, recover=self.as_of | {"topics": self.topics})
        reply, *replay = self.peer.news()
        said: dict[str, Any] = reply["result"]
        self.as_of = said["as_of"]
        if not said["recovered"]:
            self.missing |= set(published) - set(self.events)
        for gap in said.get("gaps", ()):
            lost = {(gap["topic"], gap["epoch"], offset) for offset in range(gap["from"], gap["to"] + 1)}
            if gap["reason"] == "epoch":  # what came of the epoch before is not known either
                lost |= {event for event in published if event[0] == gap["topic"] and event not in self.events}
            self.missing |= lost - set(self.events)
            self.topics[gap["topic"]] = {"epoch": gap["epoch"], "offset": gap["to"]}
        self.take(replay[:number])
        return said


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("publish"), st.integers(0, 4)),
        st.tuples(st.just("cut"), st.integers(0, 3)),
        st.tuples(st.just("again"), st.integers(0, 4)),
        st.tuples(st.just("wait"), st.integers(1, 3)),
    ),
    max_size=40,
)


@given(STEPS, st.integers(0, 4), st.integers(2, 6))
def test_each_event_comes_once_and_in_order_or_is_announced(
    steps: list[tuple[str, int]], kept: int, topics: int
) -> None:
    hub = PubSub(HistoryLimits(events=kept, seconds=4.0, topics=topics))
    hub.route("publish", topic="o.0", data="before")
    reader = Reader(hub)
    published: list[tuple[str, str, int]] = []
    for what, number in steps:
        if what == "publish":
            topic = ("o.0", "o.1", "o.2", "p.0", "o.x.y")[number]
            at = hub.route("publish", topic=topic, data=1).result
            if topic.startswith("o.") and topic.count(".") == 1:
                published.append((topic, at["epoch"], at["offset"]))
        elif what == "wait":
            hub.clock.pass_by(number)
        elif what == "cut" and reader.peer is not None:
            reader.read(number)
            reader.cut()
        elif what == "again" and reader.peer is None:
            reader.again(published, number)
            reader.cut()
    if reader.peer is not None:
        reader.read()
        reader.cut()
    reader.again(published)
    assert len(set(reader.events)) == len(reader.events), "an event came twice"
    for topic in {event[0] for event in reader.events}:
        came = [event for event in reader.events if event[0] == topic]
        assert came == [event for event in published if event in came], "out of order"
    assert set(published) <= set(reader.events) | reader.missing, "an event was lost without a word"


def recovered(hub: PubSub, as_of: dict[str, Any], **topics: Any) -> tuple[dict[str, Any], list[tuple[str, int]]]:
    peer = hub.peer()
    peer.request("subscribe", topic=PATTERN, recover=as_of | {"topics": topics})
    reply, *events = peer.news()
    return reply["result"], [(event["topic"], event["offset"]) for event in events]


def publish(hub: PubSub, *topics: str) -> None:
    for topic in topics:
        assert hub.route("publish", topic=topic, data=1).error is None


def test_topics_that_are_new_come_whole_and_known_ones_after_their_position() -> None:
    hub = PubSub()
    publish(hub, "o.old", "o.old")
    as_of = hub.peer().subscribe(PATTERN)["as_of"]
    publish(hub, "o.old", "o.new", "o.known", "other.1", "o.known")
    epoch = hub.peer().subscribe("o.known")["epoch"]
    said, events = recovered(hub, as_of, **{"o.known": {"epoch": epoch, "offset": 1}})
    assert sorted(events) == [("o.known", 2), ("o.new", 1), ("o.old", 3)]
    assert (said["recovered"], said["as_of"], "gaps" in said) == (True, as_of, False), "the replay is on its way"


def test_where_nothing_was_missed_the_place_moves_on() -> None:
    hub = PubSub()
    as_of = hub.peer().subscribe(PATTERN)["as_of"]
    publish(hub, "other.1", "other.2")
    said, events = recovered(hub, as_of)
    assert (events, said["as_of"]["offset"]) == ([], as_of["offset"] + 2)


def test_a_subscription_that_there_is_tells_no_place() -> None:
    peer = PubSub().peer()
    assert "as_of" in peer.subscribe(PATTERN)
    assert "as_of" not in peer.subscribe(PATTERN), "events may be on their way"


def test_another_run_of_the_hub_and_too_much_since_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    hub = PubSub()
    as_of = hub.peer().subscribe(PATTERN)["as_of"]
    for place in ({"epoch": "gone"}, {"offset": as_of["offset"] + 1}):
        assert recovered(hub, as_of | place)[0]["recovered"] is False
    monkeypatch.setattr(memory, "MAX_LOOK", 2)
    publish(hub, "p.1", "o.1")
    assert recovered(hub, as_of)[0]["recovered"] is True
    publish(hub, "p.2")
    assert recovered(hub, as_of)[0]["recovered"] is False


def test_so_many_gaps_are_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "MAX_GAPS", 1)
    hub = PubSub(HistoryLimits(events=0))
    as_of = hub.peer().subscribe(PATTERN)["as_of"]
    publish(hub, "o.1")
    require({"recovered": True, "gaps": [{"topic": "o.1", "from": 1, "to": 1}]}, recovered(hub, as_of)[0])
    publish(hub, "o.2")
    assert recovered(hub, as_of)[0]["recovered"] is False


def test_jobs_and_the_hubs_own_topics_are_not_reached() -> None:
    hub = PubSub()
    peer = hub.peer()
    as_of = peer.subscribe(">")["as_of"]
    hub.topics.announce("system.metrics", 1)
    hub.topics.announce("jobs." + "a" * 32, 1)
    again = hub.peer()
    again.request("subscribe", topic=">", recover=as_of)
    assert len(again.news()) == 1


@pytest.mark.parametrize(
    ("topic", "recover"),
    [
        ("o.1", {"topics": {}}),
        (PATTERN, {"topics": {"o.1": {"epoch": "a"}}}),
        (PATTERN, {"topics": {"o.1": {"epoch": "a", "offset": -1}}}),
        (PATTERN, {"topics": {str(n): {"epoch": "a", "offset": 1} for n in range(16_385)}}),
    ],
)
def test_what_is_no_recovery(topic: str, recover: dict[str, Any]) -> None:
    error = PubSub().peer().error("subscribe", topic=topic, recover={"epoch": "a", "offset": 0} | recover)
    require({"code": ErrorCode.INVALID_PARAMS}, error)
