"""``system.topics``: the topics that spoke last, who hears them, and what else somebody subscribed to."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Protocol

from trunkline.broker.base import TopicStanding
from trunkline.hub.dispatch import Handlers, replying
from trunkline_protocol import reports
from trunkline_protocol.hub_methods import SYSTEM_TOPICS
from trunkline_protocol.reports import TopicsParams


class TopicsView(Protocol):
    """The hub's topics, as far as they are needed here."""

    def recent(self, limit: int) -> tuple[list[tuple[TopicStanding, int]], int]:
        """The topics that spoke last, the last one first, with how many connections hear each; and how many more."""

    def patterns(self) -> Iterator[tuple[str, int]]:
        """Each topic or pattern somebody subscribed to, and how many connections did."""


class TopicList:
    """Answers it. Rates are the caller's to make, of two looks: ``offset`` counts the events of an epoch.

    Args:
        topics: knows them.
    """

    def __init__(self, topics: TopicsView) -> None:
        self._topics = topics

    def methods(self) -> Handlers:
        """The call of this file, by name."""
        return replying(SYSTEM_TOPICS, self._list)

    def _list(self, params: TopicsParams) -> reports.TopicList:
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
