"""What one principal's subscriptions may cost everybody: patterns that are dear to match, and how many there are."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from tests.hub.pubsub import Peer, PubSub
from tests.support.match import require
from trunkline.hub import subscriptions
from trunkline.hub.principal import Principal
from trunkline.hub.subscription_totals import MATCH_STEPS, MATCH_STEPS_PER_PRINCIPAL
from trunkline_protocol.errors import ErrorCode
from trunkline_protocol.topics import MAX_TOKENS, covers

ALICE, BOB = Principal("alice"), Principal("bob")
DEAREST = ".".join("a" * MAX_TOKENS)
TOO_SLOW = {"code": ErrorCode.RESOURCE_EXHAUSTED, "data": {"limit": "match_steps"}}
TOO_MANY = {"code": ErrorCode.RESOURCE_EXHAUSTED, "data": {"limit": "TRUNKLINE_MAX_SUBSCRIPTIONS_PER_PRINCIPAL"}}


def dear(number: int, tokens: int = MAX_TOKENS) -> list[str]:
    """Patterns from {a, *} that all reach ``a.a.a...``."""
    every = itertools.product("a*", repeat=10)
    return [".".join([*each, *("a" * (tokens - 11)), "*"]) for each in itertools.islice(every, number)]


def replies(peer: Peer, patterns: list[str]) -> list[Any]:
    for pattern in patterns:
        peer.request("subscribe", topic=pattern)
    return peer.news()


def steps(hub: PubSub, topic: str) -> int:
    """The nodes that a match goes through."""
    level, met = [hub.spaces.default.index._root], 0
    for token in topic.split("."):
        met += len(level)
        level = [node.children[each] for node in level for each in (token, "*") if each in node.children]
    return met


def test_patterns_that_are_dear_to_match_are_refused_and_cost_nobody_an_event() -> None:
    hub = PubSub()
    attacker, listener = hub.peer(ALICE), hub.peer(BOB)
    listener.subscribe(DEAREST)
    listener.subscribe("*.a.a.a.a.a.a.a.>")
    answers = replies(attacker, dear(1000))
    refused = [answer["error"] for answer in answers if "error" in answer]
    assert len(answers) == 1000
    assert 900 < len(refused) < 1000
    for error in refused:
        require(TOO_SLOW, error)
        assert "9 tokens" in error["message"]
    assert steps(hub, DEAREST) <= 1023 + MATCH_STEPS_PER_PRINCIPAL
    assert hub.route("publish", topic=DEAREST, data=1).error is None
    assert listener.events() == [(DEAREST, 1)]
    assert attacker.events() == [(DEAREST, 1)]


def test_who_has_used_up_a_share_has_not_used_up_the_others() -> None:
    hub = PubSub()
    for connection in range(6):  # however many connections
        replies(hub.peer(ALICE), dear(200, tokens=MAX_TOKENS - connection % 3))
    assert steps(hub, DEAREST) <= 1023 + MATCH_STEPS_PER_PRINCIPAL
    assert "result" in replies(hub.peer(BOB), [DEAREST[:-1] + "*"])[0]


def test_all_principals_together_do_not_stop_the_hub() -> None:
    hub = PubSub()
    for number in range(20):
        varied = [f"a.a.a.a.{pattern}" for pattern in dear(100, tokens=12 + number % 8)]
        answers = replies(hub.peer(Principal(f"p{number}")), varied)
    assert any("error" in answer for answer in answers)
    assert steps(hub, DEAREST) <= 1023 + MATCH_STEPS
    late = hub.peer(BOB)
    for pattern in ("a.>", "*.*.*", "a.*.a.*.a.*.a.*.*", "*.a.a.a.a.a.a.a.*.>", DEAREST):
        late.subscribe(pattern)
    assert hub.route("publish", topic=DEAREST, data=1).error is None
    assert late.events() == [(DEAREST, 1)]


@pytest.mark.parametrize("way", ["unsubscribe", "disconnect"])
def test_what_is_given_up_may_be_used_again(way: str) -> None:
    hub = PubSub()
    for _ in range(3):
        peer = hub.peer(ALICE)
        accepted = [answer["result"]["topic"] for answer in replies(peer, dear(100)) if "result" in answer]
        assert len(accepted) > 10
        if way == "disconnect":
            peer.connection.disconnected()
        else:
            assert all(peer.unsubscribe(pattern) for pattern in accepted)
    assert steps(hub, DEAREST) == 1
    assert not hub.topics.totals._cost
    assert not hub.topics.totals._held
    assert not hub.topics._patterns


def test_many_connections_with_the_same_long_pattern_cost_what_one_does() -> None:
    hub = PubSub()
    peers = [hub.peer(ALICE) for _ in range(200)]
    for peer in peers:
        peer.subscribe(dear(1)[0])
    for peer in peers[1:]:
        peer.connection.disconnected()
    assert hub.topics.totals._cost.steps == MAX_TOKENS - 9


def test_subscriptions_are_counted_over_all_connections_of_a_principal() -> None:
    hub = PubSub(max_subscriptions_per_principal=10)
    one, other = hub.peer(ALICE), hub.peer(ALICE)
    for number in range(4):
        one.subscribe(f"t.{number}")
    other.subscribe("a.b.*")  # three
    other.subscribe("a.*.>")
    require(TOO_MANY, one.error("subscribe", topic="t"))
    assert one.subscribe("t.1")["topic"] == "t.1", "which it has"
    hub.peer(BOB).subscribe("t")
    other.unsubscribe("a.*.>")
    one.subscribe("t")
    require(TOO_MANY, one.error("subscribe", topic="a.*.c"))
    other.connection.disconnected()
    one.subscribe("a.*.c")


def test_a_subscription_is_counted_for_who_made_it() -> None:
    hub = PubSub(max_subscriptions_per_principal=2)
    peer = hub.peer(ALICE)
    peer.subscribe("a")
    peer.connection.become(BOB)
    peer.subscribe("b")
    assert peer.unsubscribe("a")
    assert set(hub.topics.totals._held) == {"bob"}
    peer.connection.disconnected()
    assert not hub.topics.totals._held


def test_unsubscribing_looks_at_each_waiting_topic_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not at each pattern of the connection for each event that waits for it."""
    hub = PubSub()
    peer = hub.peer(ALICE)
    looked: list[str] = []

    def looking(wide: str, narrow: str) -> bool:
        looked.append(narrow)
        return covers(wide, narrow)

    monkeypatch.setattr(subscriptions, "covers", looking)
    for number in range(100):
        peer.subscribe(f"*.{number}.x")
    peer.subscribe("a.>")
    peer.door.stuck = True
    for number in range(20):
        for _ in range(10):
            hub.route("publish", topic=f"a.{number}.{'x' if number < 10 else 'y'}", data=1)
    before = peer.events()
    assert len(before) < 5
    peer.door.stuck = False
    peer.request("unsubscribe", topic="a.>")
    assert len(looked) <= 20
    peer.connection.outbox.resume()
    after = peer.events()
    assert {topic for topic, _ in after} == {f"a.{number}.x" for number in range(10)}
    assert len(before) + len(after) >= 100
