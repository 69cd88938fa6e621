"""Topics of tenants: nobody gets an event that is neither its tenant's nor shared, nobody misses one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.hub.pubsub import Peer, PubSub
from trunkline.broker.common import HistoryLimits
from trunkline.hub import topic_spaces
from trunkline.hub.principal import Principal
from trunkline.hub.topic_history import TopicHistory
from trunkline_protocol.topics import matches

SHARED: Final = ("news.>", "open.*")
TENANTS: Final = ("default", "acme", "news", ">")
"""Among them one that would be a pattern, and one whose name begins what is shared."""

TOPICS: Final = ("a", "a.b", "news", "news.a", "open.a", "open.a.b", "acme.a")
PATTERNS: Final = ("a.b", "news.a", "open.a", ">", "*", "*.a", "a.>", "news.*", "open.>", "acme.>")
Log = list[tuple[str, str, int]]
"""Every publication: whose the topic is, the topic, the offset."""


def owner(tenant: str, topic: str) -> str:
    """Whose a topic is, as the handbook says."""
    first, *rest = topic.split(".")
    is_shared = (first == "news" and rest) or (first == "open" and len(rest) == 1)
    return "(all)" if is_shared else tenant


def ann(tenant: str) -> Principal:
    return Principal("ann", tenant=tenant)


def pubsub(shared: tuple[str, ...] = SHARED, history: HistoryLimits | None = None) -> PubSub:
    hub = PubSub(history, shared)
    hub.router.handle(TopicHistory(hub.spaces).methods())
    return hub


class Reader:
    """A subscriber of one tenant over one connection after the other, and the places that it was told.

    Attributes:
        told: by pattern or topic where to recover from, and how many publications there were when that was told.
    """

    def __init__(self, hub: PubSub, tenant: str, log: Log) -> None:
        self.hub, self.tenant, self.log = hub, tenant, log
        self.told: dict[str, tuple[dict[str, Any], int]] = {}
        self.peer: Peer | None = hub.peer(ann(tenant))

    def reaches(self, pattern: str, event: tuple[str, str, int]) -> bool:
        whose, topic, _ = event
        return whose == owner(self.tenant, topic) and matches(pattern, topic)

    def subscribe(self, pattern: str) -> None:
        assert self.peer is not None
        said = self.peer.subscribe(pattern)
        if pattern not in self.told:
            at = said.get("as_of", said)
            self.told[pattern] = {"epoch": at["epoch"], "offset": at["offset"]}, len(self.log)

    def unsubscribe(self, pattern: str) -> None:
        assert self.peer is not None
        assert self.peer.unsubscribe(pattern) is (self.told.pop(pattern, None) is not None)

    def require(self, event: tuple[str, str, int]) -> None:
        """What was published last has come once, or not at all."""
        if self.peer is not None:
            wanted = any(self.reaches(pattern, event) for pattern in self.told)
            assert self.peer.events() == ([event[1:]] if wanted else [])

    def cut(self) -> None:
        if self.peer is not None:
            self.peer.connection.disconnected()
            self.peer = None

    def again(self) -> None:
        """Connect, and recover all subscriptions, one after the other."""
        if self.peer is not None:
            return
        self.peer = self.hub.peer(ann(self.tenant))
        for pattern, (place, since) in self.told.items():
            self.peer.request("subscribe", topic=pattern, recover=place)
            reply, *events = self.peer.news()
            said = reply["result"]
            assert said["recovered"] is True
            assert "gaps" not in said
            missed = [event for event in self.log[since:] if self.reaches(pattern, event)]
            assert sorted((event["topic"], event["offset"]) for event in events) == sorted(
                event[1:] for event in missed
            )
            if said.get("as_of", place) != place:
                assert not missed, "a place moves on where nothing is on its way"
                self.told[pattern] = said["as_of"], len(self.log)


NUMBERS: Final = st.integers(0, len(TENANTS) - 1)
STEPS: Final = st.lists(
    st.one_of(
        st.tuples(st.just("publish"), NUMBERS, st.sampled_from(TOPICS)),
        st.tuples(st.just("keyed"), NUMBERS, st.sampled_from(TOPICS)),
        st.tuples(st.just("subscribe"), NUMBERS, st.sampled_from(PATTERNS)),
        st.tuples(st.just("unsubscribe"), NUMBERS, st.sampled_from(PATTERNS)),
        st.tuples(st.just("history"), NUMBERS, st.sampled_from(TOPICS)),
        st.tuples(st.sampled_from(("cut", "again", "wait")), NUMBERS, st.just("")),
    ),
    min_size=20,
    max_size=60,
)


@given(STEPS)
def test_everyone_gets_what_is_its_tenants_or_shared_and_nothing_else(steps: list[tuple[str, int, str]]) -> None:
    with patch.object(topic_spaces, "SWEEP_AT", 0):
        hub = pubsub()
    log: Log = []
    keyed: dict[tuple[str, str], int] = {}
    readers = [Reader(hub, tenant, log) for tenant in TENANTS]
    writers = [hub.peer(ann(tenant)) for tenant in TENANTS]
    for what, number, name in steps:
        reader, tenant = readers[number], TENANTS[number]
        if what in ("publish", "keyed"):
            key = {"idempotency_key": "k"} if what == "keyed" else {}
            offset = writers[number].result("publish", topic=name, data=tenant, **key)["offset"]
            if key and (tenant, name) in keyed:
                assert offset == keyed[tenant, name], "the key is that of ann of this tenant"
                continue
            keyed |= {(tenant, name): offset} if key else {}
            whose = owner(tenant, name)
            log.append((whose, name, offset))
            assert offset == sum(event[:2] == (whose, name) for event in log)
            for each in readers:
                each.require(log[-1])
        elif what == "history":
            said = writers[number].result("history", topic=name)
            wanted = [offset for whose, topic, offset in log if (whose, topic) == (owner(tenant, name), name)]
            assert ([event["offset"] for event in said["events"]], said["offset"]) == (wanted, len(wanted))
            assert {event["data"] for event in said["events"]} <= set(
                TENANTS if owner(tenant, name) != tenant else [tenant]
            )
        elif what == "wait":
            hub.clock.pass_by(0.5)
        elif what in ("cut", "again"):
            getattr(reader, what)()
        elif reader.peer is not None:
            getattr(reader, what)(name)
    for reader in readers:
        reader.cut()
        reader.again()
        reader.cut()
    assert hub.topics.count == 0
    assert not list(hub.topics.subscribed())
    assert all(space.index.is_empty for space in hub.spaces)


# --- by example ---


def subscribers(hub: PubSub, *topics: str) -> dict[str, Peer]:
    """A subscriber of every tenant."""
    peers = {tenant: hub.peer(ann(tenant)) for tenant in ("default", "acme", "bolt")}
    for peer in peers.values():
        for topic in topics:
            peer.subscribe(topic)
    return peers


@pytest.mark.parametrize("pattern", ["mail.in", "mail.*", ">"])
def test_one_name_is_a_topic_of_each_tenant(pattern: str) -> None:
    hub = pubsub()
    peers = subscribers(hub, pattern)
    for number, tenant in enumerate(peers, 1):
        for _ in range(number):
            hub.peer(ann(tenant)).result("publish", topic="mail.in", data=tenant)
    for number, (tenant, peer) in enumerate(peers.items(), 1):
        events = peer.news()
        assert [(event["data"], event["offset"]) for event in events] == [(tenant, n + 1) for n in range(number)]
        assert all("tenant" not in event for event in events), "it is nobody else's"


def test_what_is_shared_names_the_tenant_of_who_published_it() -> None:
    hub = pubsub()
    peers = subscribers(hub, ">")
    for tenant, peer in peers.items():
        hub.peer(ann(tenant)).result("publish", topic="news.a", data=tenant)
        assert peer.connection.subscriptions.keys() == {">"}
    for peer in peers.values():
        told = [(event["data"], event["publisher"], event.get("tenant"), event["offset"]) for event in peer.news()]
        assert told == [("default", "ann", None, 1), ("acme", "ann", "acme", 2), ("bolt", "ann", "bolt", 3)]
        kept = peer.result("history", topic="news.a")["events"]
        assert [(event["publisher"], event.get("tenant")) for event in kept] == [
            ("ann", None),
            ("ann", "acme"),
            ("ann", "bolt"),
        ]


def test_where_everything_is_shared_tenants_have_all_in_common_but_jobs() -> None:
    hub = pubsub((">",))
    job = f"jobs.{'0a' * 16}"
    peers = subscribers(hub, "*", job)
    hub.peer(ann("acme")).result("publish", topic="a", data=1)
    hub.spaces.of("acme", job).broker.publish(job, b"2", None, lambda _: None)
    came = {tenant: [event["data"] for event in peer.news()] for tenant, peer in peers.items()}
    assert came == {"default": [1], "acme": [1, 2], "bolt": [1]}


def test_the_hubs_own_topics_are_the_same_for_all_that_may_subscribe() -> None:
    hub = pubsub(())
    peers = [hub.peer(Principal("ann", subscribe=("system.health", ">"), tenant=tenant)) for tenant in ("acme", "bolt")]
    for peer in peers:
        peer.subscribe("system.health")
        peer.subscribe(">")
    assert hub.topics.reaches("system.health")
    assert hub.interest == 2
    hub.topics.announce("system.health", 1)
    assert [peer.events() for peer in peers] == [[("system.health", 1)]] * 2
    for peer in peers:
        assert peer.error("subscribe", topic="system.logs")["code"] == 6002


def test_an_admin_of_a_tenant_stands_in_its_own() -> None:
    hub = pubsub()
    root = hub.peer(Principal("root", frozenset({"admin"}), tenant="acme"))
    root.subscribe(">")
    for tenant in ("default", "acme", "bolt"):
        hub.peer(ann(tenant)).result("publish", topic="a", data=tenant)
    assert [event["data"] for event in root.news()] == ["acme"]


def test_a_pattern_is_recovered_in_its_tenant_and_in_what_is_shared() -> None:
    hub = pubsub()
    writer, other = hub.peer(ann("acme")), hub.peer(ann("bolt"))
    as_of = hub.peer(ann("acme")).subscribe(">")["as_of"]
    writer.result("publish", topic="a", data=1)
    for peer in (writer, other, writer):
        peer.result("publish", topic="news.a", data=1)
        peer.result("publish", topic="b", data=1)
    known = {"news.a": {"epoch": writer.result("history", topic="news.a")["epoch"], "offset": 1}}
    again = hub.peer(ann("acme"))
    again.request("subscribe", topic=">", recover=as_of | {"topics": known})
    reply, *events = again.news()
    assert (reply["result"]["recovered"], reply["result"]["as_of"]) == (True, as_of)
    came = sorted((event["topic"], event["offset"]) for event in events)
    assert came == [("a", 1), ("b", 1), ("b", 2), ("news.a", 2), ("news.a", 3)]


@pytest.mark.parametrize("gone", ["a", "news.a"])
def test_what_is_not_kept_of_one_part_makes_a_gap(gone: str) -> None:
    hub = pubsub(history=HistoryLimits(events=1))
    as_of = hub.peer(ann("acme")).subscribe(">")["as_of"]
    for _ in range(2):
        hub.peer(ann("acme")).result("publish", topic=gone, data=1)
    again = hub.peer(ann("acme"))
    again.request("subscribe", topic=">", recover=as_of)
    (reply,) = again.news()
    assert [gap["topic"] for gap in reply["result"]["gaps"]] == [gone]


def places(hub: PubSub, others: Iterator[str]) -> list[int]:
    """The places that a pattern of acme is told, a second apart, while others publish."""
    told = []
    for topic in others:
        hub.peer(ann("bolt")).result("publish", topic=topic, data=1)
        hub.peer().result("publish", topic=topic, data=1)
        hub.clock.pass_by(1)
        told.append(hub.peer(ann("acme")).subscribe("a.*")["as_of"]["offset"])
    return told


def test_nothing_says_how_much_others_publish() -> None:
    quiet, loud = pubsub(), pubsub()
    told = places(quiet, iter("abc"))
    for _ in range(3):
        loud.peer(ann("bolt")).result("publish", topic="a.b", data=1)
    assert places(loud, iter("abc")) == told
    said = loud.peer(ann("acme")).result("history", topic="a.b")
    assert (said["offset"], said["events"]) == (0, [])


def test_rights_are_about_names_in_the_tenant() -> None:
    hub = pubsub()
    reader = hub.peer(Principal("ann", subscribe=("a.*",), publish=("a.b",), tenant="acme"))
    reader.subscribe("a.b")
    assert reader.error("subscribe", topic="b")["code"] == 6002
    assert reader.error("publish", topic="a.c", data=1)["code"] == 6002
    reader.request("publish", topic="a.b", data=1)
    assert len(reader.news()) == 2


def test_unsigned_topics_name_neither_publisher_nor_tenant() -> None:
    hub = PubSub(None, SHARED, ("news.*",))
    peers = subscribers(hub, "news.a")
    hub.peer(ann("acme")).result("publish", topic="news.a", data=1)
    for peer in peers.values():
        (event,) = peer.news()
        assert {"publisher", "tenant"}.isdisjoint(event)


def test_lists_have_the_tenant_beside_the_name() -> None:
    hub = pubsub()
    subscribers(hub, "a", ">", "news.*")
    for tenant, topic in (("acme", "a"), ("default", "b"), ("bolt", "a"), ("acme", "news.a")):
        hub.peer(ann(tenant)).result("publish", topic=topic, data=1)
    told, more = hub.topics.recent(3)
    listed = [(state.tenant, state.standing.topic, state.subscribers) for state in told]
    assert listed == [("default", "news.a", 3), ("bolt", "a", 1), ("default", "b", 1)]
    assert more == 1
    own = [(tenant, name, 1) for tenant in ("acme", "bolt", "default") for name in (">", "a")]
    assert sorted(hub.topics.subscribed()) == sorted([*own, ("default", "news.*", 3)])


def test_tenants_that_nobody_is_of_any_more_take_no_memory() -> None:
    with patch.object(topic_spaces, "SWEEP_AT", 8):
        hub = pubsub(())
        kept = hub.peer(ann("kept"))
        kept.subscribe("a.*")
        spoken = hub.peer(ann("spoken")).result("publish", topic="a.b", data=1)
        for number in range(1000):
            gone = hub.peer(ann(f"t{number}"))
            gone.subscribe(">")
            gone.connection.disconnected()
        assert len(list(hub.spaces)) < 20
    hub.peer(ann("kept")).result("publish", topic="a.b", data=1)
    assert kept.events() == [("a.b", 1)]
    assert hub.peer(ann("spoken")).result("history", topic="a.b")["epoch"] == spoken["epoch"]
