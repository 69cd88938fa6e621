"""``system.topics``: the topics with the latest events, and all subscribed topics and patterns."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Protocol

from trunkline.broker.base import TopicStanding
from trunkline.hub.dispatch import Handlers, replying
from trunkline_protocol import reports
from trunkline_protocol.calls import Call
from trunkline_protocol.hub_methods import SYSTEM_TOPICS
from trunkline_protocol.reports import TopicsParams


class TopicsView(Protocol):
    """The part of the hub's subscriptions that is used here."""

    def recent(self, limit: int) -> tuple[list[tuple[TopicStanding, int]], int]:
        """The topics with the latest events, latest first, and the number of subscribers of each; and how many more."""

    def patterns(self) -> Iterator[tuple[str, int]]:
        """Each subscribed topic or pattern, and its number of subscribers."""


class TopicList:
    """Answers ``system.topics``. It has no rates: callers compute them from ``offset``, which counts an epoch's events.

    Args:
        topics: the hub's subscriptions.
    """

    def __init__(self, topics: TopicsView) -> None:
        self._topics = topics

    def methods(self) -> Handlers:
        """The handler of ``system.topics``."""
        return replying(SYSTEM_TOPICS, self._list)

    def _list(self, _call: Call, params: TopicsParams) -> reports.TopicList:
        recent, more = self._topics.recent(params.limit)
        patterns = islice(self._topics.patterns(), params.limit)
        return reports.TopicList(
            [_report(standing, subscribers) for standing, subscribers in recent],
            more,
            [reports.SubscribedPattern(pattern, number) for pattern, number in patterns],
        )


def _report(standing: TopicStanding, subscribers: int) -> reports.TopicReport:
    return reports.TopicReport(
        topic=standing.topic,
        epoch=standing.head.epoch,
        offset=standing.head.offset,
        kept=standing.kept,
        kept_bytes=standing.kept_bytes,
        oldest_at=standing.oldest_at,
        subscribers=subscribers,
    )
