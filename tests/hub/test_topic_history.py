"""``history``: what a topic keeps, without a subscription."""

from __future__ import annotations

from typing import Any

import pytest

from tests.hub.pubsub import Outcome, PubSub
from tests.support.match import require
from trunkline.broker.common import HistoryLimits
from trunkline.hub import topic_history
from trunkline.hub.principal import Principal
from trunkline.hub.topic_history import TopicHistory
from trunkline_protocol.errors import ErrorCode


def made(**limits: int) -> PubSub:
    hub = PubSub(HistoryLimits(**limits))
    hub.router.handle(TopicHistory(hub.spaces).methods())
    return hub


def published(hub: PubSub, number: int, topic: str = "t") -> str:
    """The epoch of a topic with so many events, of which each is its offset."""
    results = [hub.route("publish", topic=topic, data=n).result for n in range(1, number + 1)]
    epoch: str = results[-1]["epoch"]
    return epoch


def history(hub: PubSub, **params: Any) -> dict[str, Any]:
    call: Outcome = hub.route("history", **{"topic": "t"} | params)
    assert call.error is None, call.error
    said: dict[str, Any] = call.result
    return said


def listed(said: dict[str, Any]) -> list[int]:
    return [event["offset"] for event in said["events"]]


def test_the_latest_events_in_order() -> None:
    hub = made()
    epoch = published(hub, 5)
    said = history(hub, limit=2)
    require({"topic": "t", "epoch": epoch, "offset": 5, "more": False}, said)
    assert listed(said) == [4, 5]
    assert "gap" not in said
    assert [event["data"] for event in said["events"]] == [4, 5]
    assert listed(history(hub)) == [1, 2, 3, 4, 5]


def test_a_topic_that_nobody_published_to_is_empty() -> None:
    assert history(made(), topic="silent") | {"epoch": ""} == {
        "topic": "silent", "epoch": "", "offset": 0, "events": [], "more": False
    }  # fmt: skip


def test_page_after_page_is_everything_once() -> None:
    hub = made()
    epoch = published(hub, 7)
    seen: list[int] = []
    more = True
    while more:
        said = history(hub, after={"epoch": epoch, "offset": seen[-1] if seen else 0}, limit=3)
        seen += listed(said)
        more = said["more"]
        assert "gap" not in said
    assert seen == [1, 2, 3, 4, 5, 6, 7]
    assert listed(history(hub, after={"epoch": epoch, "offset": 7})) == []


@pytest.mark.parametrize(
    ("after", "gap"),
    [
        ({"offset": 1}, {"from": 2, "to": 5, "count": 4, "reason": "history"}),
        ({"offset": 5}, None),
        ({"offset": 8}, None),
        ({"epoch": "gone.0", "offset": 8}, {"from": 1, "to": 5, "reason": "epoch"}),
        ({"offset": 99}, {"from": 1, "to": 5, "reason": "epoch"}),
    ],
)
def test_what_is_not_kept_any_more_is_told(after: dict[str, Any], gap: dict[str, Any] | None) -> None:
    hub = made(events=3)
    epoch = published(hub, 8)
    said = history(hub, after={"epoch": epoch} | after)
    assert said.get("gap") == (None if gap is None else {"topic": "t", "epoch": epoch} | gap)
    assert listed(said) == [n for n in (6, 7, 8) if gap is not None or n > after["offset"]]


def test_of_a_history_that_is_not_kept_everything_is_missing() -> None:
    hub = made(events=0)
    epoch = published(hub, 2)
    gap = {"topic": "t", "epoch": epoch, "from": 1, "to": 2, "count": 2, "reason": "history"}
    assert history(hub, after={"epoch": epoch, "offset": 0})["gap"] == gap


def test_an_answer_is_bounded_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(topic_history, "MAX_BYTES", 250)
    hub = made()
    for _ in range(4):
        epoch = hub.route("publish", topic="t", data="x" * 98).result["epoch"]
    assert listed(history(hub)) == [3, 4], "the latest"
    said = history(hub, after={"epoch": epoch, "offset": 0})
    assert (listed(said), said["more"]) == ([1, 2], True)
    hub.route("publish", topic="large", data="x" * 999)
    assert listed(history(hub, topic="large")) == [1], "one in any case"


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"topic": "a.*"},
        {"topic": ""},
        {"topic": "t", "limit": 0},
        {"topic": "t", "limit": 1001},
        {"topic": "t", "x": 1},
    ],
)
def test_what_is_no_history(params: dict[str, Any]) -> None:
    call = made().route("history", **params)
    assert call.error is not None
    assert call.error.code == ErrorCode.INVALID_PARAMS


def test_it_takes_the_right_to_subscribe() -> None:
    hub = made()
    published(hub, 1, "jobs.1")
    reader = Principal("reader", methods=("nothing",), subscribe=("jobs.*",))
    peer = hub.peer(reader)
    assert listed(peer.result("history", topic="jobs.1")) == [1]
    require({"code": ErrorCode.FORBIDDEN}, peer.error("history", topic="logs.1"))
    require({"code": ErrorCode.FORBIDDEN}, hub.peer(Principal("plain")).error("history", topic="system.logs"))
