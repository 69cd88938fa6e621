"""``system.topics``: the topics with the latest events, and all subscribed topics and patterns."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Protocol

from trunkline.control.calls_in_flight import tenant_of
from trunkline.hub.dispatch import Handlers, replying
from trunkline.hub.subscriptions import TopicState
from trunkline_protocol import reports
from trunkline_protocol.calls import Call
from trunkline_protocol.hub_methods import SYSTEM_TOPICS
from trunkline_protocol.principals import DEFAULT_TENANT
from trunkline_protocol.reports import TopicsParams


class TopicsView(Protocol):
    """The part of the hub's subscriptions that is used here."""

    def recent(self, limit: int) -> tuple[list[TopicState], int]:
        """The topics of all tenants with the latest events, latest first; and how many more there are."""

    def subscribed(self) -> Iterator[tuple[str, str, int]]:
        """Tenant, topic or pattern, and number of subscribers, of all that is subscribed to."""


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

    def _list(self, call: Call, params: TopicsParams) -> reports.TopicList:
        recent, more = self._topics.recent(params.limit)
        subscribed = islice(self._topics.subscribed(), params.limit)
        return reports.TopicList(
            [_report(state) for state in recent],
            more,
            [reports.SubscribedPattern(pattern, number, tenant) for tenant, pattern, number in subscribed],
            tenant_of(call) or DEFAULT_TENANT,
        )


def _report(state: TopicState) -> reports.TopicReport:
    standing = state.standing
    return reports.TopicReport(
        topic=standing.topic,
        epoch=standing.head.epoch,
        offset=standing.head.offset,
        kept=standing.kept,
        kept_bytes=standing.kept_bytes,
        oldest_at=standing.oldest_at,
        subscribers=state.subscribers,
        tenant=state.tenant,
    )
