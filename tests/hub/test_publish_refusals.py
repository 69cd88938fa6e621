"""What may not be published or subscribed to: by whom, where, what, and how much at once."""

from __future__ import annotations

from typing import Any

import pytest

from tests.hub.pubsub import PubSub
from tests.support.match import require
from trunkline.hub.fanout import AT_ONCE
from trunkline.hub.principal import ANONYMOUS, Principal
from trunkline_protocol.errors import ErrorCode
from trunkline_protocol.hub_messages import MAX_KEY_CHARS

WRITER = Principal("writer", publish=("jobs.*",), subscribe=("jobs.>", "logs.*"))
MUTE = Principal("mute", publish=(), subscribe=())
NARROW = Principal("narrow", methods=("rag.*",), publish=("jobs.*",))


@pytest.fixture
def hub() -> PubSub:
    return PubSub()


def refused(code: ErrorCode, word: str = "") -> dict[str, Any]:
    return {"code": code, "message": {"$contains": word}, "data": {"type": code.name}}


def raw(hub: PubSub, params: bytes) -> Any:
    """A publication whose params are exactly this; the reply."""
    peer = hub.peer()
    peer.connection.receive(b'{"jsonrpc":"2.0","id":1,"method":"publish","params":%b}' % params)
    (reply,) = peer.door.said()
    return reply


# --- what it is ---


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"topic": "a"},
        {"data": 1},
        {"topic": 1, "data": 1},
        {"topic": "a", "data": 1, "more": 1},
        {"topic": "a", "data": 1, "idempotency_key": 5},
        {"topic": "a", "data": 1, "idempotency_key": "k" * (MAX_KEY_CHARS + 1)},
        {"topic": "", "data": 1},
        {"topic": "a.*", "data": 1},
        {"topic": ">", "data": 1},
        {"topic": "a b", "data": 1},
        {"topic": "a.", "data": 1},
        {"topic": "x" * 257, "data": 1},
    ],
)
def test_what_is_no_publication(hub: PubSub, params: dict[str, Any]) -> None:
    watcher = hub.peer()
    watcher.subscribe(">")
    require(refused(ErrorCode.INVALID_PARAMS), hub.peer().error("publish", **params))
    assert watcher.news() == []
    assert hub.topics.published == 0


@pytest.mark.parametrize("data", [b"1e400", b'{"x":[-1e999]}', b"9" * 400])
def test_data_that_not_everybody_could_read_reaches_nobody(hub: PubSub, data: bytes) -> None:
    watcher = hub.peer()
    watcher.subscribe("a")
    reply = raw(hub, b'{"topic":"a","data":%b}' % data)
    require(refused(ErrorCode.INVALID_PARAMS, "data"), reply["error"])
    assert watcher.news() == []


@pytest.mark.parametrize("data", [b"1e308", b'"\\u0000\\ud83d\\ude00"', b"1" + b"0" * 300, b"[" * 100 + b"]" * 100])
def test_data_at_the_edge_of_what_can_be_read(hub: PubSub, data: bytes) -> None:
    watcher = hub.peer()
    watcher.subscribe("a")
    assert raw(hub, b'{"topic":"a","data":%b}' % data)["result"]["offset"] == 1
    assert data in watcher.door.messages[-1]


@pytest.mark.parametrize("depth", [900, 990, 1000, 1020, 2000, 100_000])
def test_deep_nesting_is_an_answer_and_no_accident(hub: PubSub, depth: int) -> None:
    reply = raw(hub, b'{"topic":"a","data":%b}' % (b"[" * depth + b"]" * depth))
    assert "result" in reply or reply["error"]["code"] in (ErrorCode.INVALID_PARAMS, ErrorCode.PARSE_ERROR), reply


def test_the_longest_key(hub: PubSub) -> None:
    key = "k" * MAX_KEY_CHARS
    assert [hub.peer().result("publish", topic="a", data=1, idempotency_key=key)["offset"] for _ in "xx"] == [1, 1]


# --- where ---


@pytest.mark.parametrize("principal", [ANONYMOUS, WRITER])
@pytest.mark.parametrize("topic", ["system", "system.metrics", "system.a.b"])
def test_nobody_speaks_for_the_hub(hub: PubSub, principal: Principal, topic: str) -> None:
    require(refused(ErrorCode.FORBIDDEN, topic), hub.peer(principal).error("publish", topic=topic, data=1))
    error = hub.route("publish", topic=topic, data=1).error
    assert error is not None
    assert error.code == ErrorCode.FORBIDDEN


# --- by whom ---


def test_publishing_outside_of_what_is_allowed(hub: PubSub) -> None:
    writer = hub.peer(WRITER)
    assert writer.result("publish", topic="jobs.1", data=1)["offset"] == 1
    for topic in ("jobs", "jobs.1.done", "other"):
        require(refused(ErrorCode.FORBIDDEN, topic), writer.error("publish", topic=topic, data=1))
    require(refused(ErrorCode.FORBIDDEN, "mute"), hub.peer(MUTE).error("publish", topic="jobs.1", data=1))
    assert hub.topics.published == 1


@pytest.mark.parametrize("principal", [WRITER, MUTE, NARROW])
@pytest.mark.parametrize("batch", [False, True])
def test_a_notification_opens_no_other_door(hub: PubSub, principal: Principal, batch: bool) -> None:
    watcher, peer = hub.peer(), hub.peer(principal)
    watcher.subscribe(">")
    message = {"jsonrpc": "2.0", "method": "publish", "params": {"topic": "other", "data": 1}}
    peer.send([message] if batch else message)
    assert watcher.news() == []
    assert hub.finished[-1] == ("publish", ErrorCode.FORBIDDEN)


def test_what_a_method_publishes_is_the_hosts_affair(hub: PubSub) -> None:
    assert hub.route("publish", topic="other", data=1).result["offset"] == 1


def test_subscribing_outside_of_what_is_allowed(hub: PubSub) -> None:
    peer = hub.peer(WRITER)
    for topic in ("jobs.1", "jobs.>", "logs.a"):
        peer.subscribe(topic)
    for topic in ("other", ">", "*", "logs.>", "system.metrics"):
        require(refused(ErrorCode.FORBIDDEN, topic), peer.error("subscribe", topic=topic))
    assert list(peer.connection.subscriptions) == ["jobs.1", "jobs.>", "logs.a"]
    require(refused(ErrorCode.FORBIDDEN, "mute"), hub.peer(MUTE).error("subscribe", topic="jobs.1"))


def test_recovering_outside_of_it_too(hub: PubSub) -> None:
    hub.route("publish", topic="other", data="secret")
    epoch = hub.peer().subscribe("other")["epoch"]
    peer = hub.peer(WRITER)
    params = {"topic": "other", "recover": {"epoch": epoch, "offset": 0}}
    require(refused(ErrorCode.FORBIDDEN, "other"), peer.error("subscribe", **params))
    assert b"secret" not in b"".join(peer.door.messages)


def test_topics_that_are_listed_are_enough(hub: PubSub) -> None:
    peer = hub.peer(NARROW)
    assert peer.result("publish", topic="jobs.1", data=1)["offset"] == 1
    require(refused(ErrorCode.FORBIDDEN, "may not call"), peer.error("subscribe", topic="jobs.1"))


def test_everybody_may_unsubscribe(hub: PubSub) -> None:
    assert hub.peer(MUTE).result("unsubscribe", topic="other")["unsubscribed"] is False


def test_a_wide_pattern_hears_nothing_of_the_hub(hub: PubSub) -> None:
    wide, admin = hub.peer(Principal("wide")), hub.peer()
    wide.subscribe(">")
    wide.subscribe("*.metrics")
    assert hub.interest == 0
    admin.subscribe("system.*")
    assert hub.interest == 1
    hub.topics.announce("system.metrics", {"connections": 1})
    assert wide.news() == []
    assert admin.events() == [("system.metrics", 1)]
    assert admin.unsubscribe("system.*")
    assert hub.interest == 2


# --- how much ---


def crowded(**limits: Any) -> PubSub:
    """A hub whose fan-out has three events for a crowd to hand out."""
    hub = PubSub(None, **limits)
    for _ in range(AT_ONCE + 1):
        hub.peer().subscribe("a")
    for _ in range(3):
        hub.route("publish", topic="a", data=1)
    assert hub.fanout.backlog == 3 * (AT_ONCE + 1)
    return hub


def test_with_too_much_to_hand_out_publishing_is_refused() -> None:
    hub = crowded(max_backlog=3 * AT_ONCE)
    reply = hub.peer().error("publish", topic="b", data=1)
    require(refused(ErrorCode.WORKER_OVERLOADED, str(hub.fanout.backlog)), reply)
    assert reply["data"]["retryable"]
    assert reply["data"]["retry_after_ms"] > 0
    assert hub.route("publish", topic="b", data=1).error is not None
    hub.turn()
    assert hub.peer().result("publish", topic="b", data=1)["offset"] == 1, "what was refused was not stored"


def test_the_hub_falls_silent_first() -> None:
    hub = crowded(max_backlog=10 * AT_ONCE)
    admin = hub.peer()
    admin.subscribe("system.metrics")
    hub.topics.announce("system.metrics", {})
    assert hub.peer().result("publish", topic="b", data=1)["offset"] == 1
    hub.turn()
    assert admin.news() == []
    hub.topics.announce("system.metrics", {})
    assert admin.events() == [("system.metrics", 1)]


def test_counting(hub: PubSub) -> None:
    one, two = hub.peer(), hub.peer()
    one.subscribe("a")
    one.subscribe("a.*")
    two.subscribe("a")
    assert hub.topics.count == 3
    for topic in ("a", "a.b", "nobody"):
        hub.route("publish", topic=topic, data=1)
    assert (hub.topics.published, hub.topics.deliveries) == (3, 3)
