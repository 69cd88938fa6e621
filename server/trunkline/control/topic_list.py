"""``system.topics``: the topics that spoke last, who hears them, and what else somebody subscribed to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Annotated, Final, Protocol

import msgspec

from trunkline.broker.base import TopicStanding
from trunkline.control.calls import require_admin
from trunkline.control.method import describe
from trunkline.hub.client_calls import decode_params
from trunkline_protocol.calls import Call

MAX_TOPICS: Final = 500
"""Topics, and subscribed patterns, that one answer lists: listing costs microseconds each."""

_encoder: Final = msgspec.json.Encoder()


class TopicsView(Protocol):
    """The hub's topics, as far as they are needed here."""

    def recent(self, limit: int) -> tuple[list[tuple[TopicStanding, int]], int]:
        """The topics that spoke last, the last one first, with how many connections hear each; and how many more."""

    def patterns(self) -> Iterator[tuple[str, int]]:
        """Each topic or pattern somebody subscribed to, and how many connections did."""


class TopicsParams(msgspec.Struct, forbid_unknown_fields=True):
    """Params of ``system.topics``."""

    limit: Annotated[int, msgspec.Meta(ge=1, le=MAX_TOPICS)] = 100


TOPICS_METHOD: Final = describe(
    "system.topics", "The topics that spoke last, the last one first (role admin)", TopicsParams, idempotent=True
)


class TopicList:
    """Answers it. Rates are the caller's to make, of two looks: ``offset`` counts the events of an epoch.

    Args:
        topics: knows them.
    """

    def __init__(self, topics: TopicsView) -> None:
        self._topics = topics

    def methods(self) -> dict[str, Callable[[Call], None]]:
        """The call of this file, by name."""
        return {"system.topics": self._list}

    def _list(self, call: Call) -> None:
        require_admin(call)
        limit = TopicsParams().limit if call.params.strip() == b"[]" else decode_params(call, TopicsParams).limit
        recent, more = self._topics.recent(limit)
        rows = [
            {
                "topic": standing.topic,
                "epoch": standing.head.epoch,
                "offset": standing.head.offset,
                "kept": standing.kept,
                "kept_bytes": standing.kept_bytes,
                "oldest_at": standing.oldest_at,
                "subscribers": subscribers,
            }
            for standing, subscribers in recent
        ]
        subscribed = [
            {"pattern": pattern, "subscribers": number} for pattern, number in islice(self._topics.patterns(), limit)
        ]
        call.settle_result(_encoder.encode({"topics": rows, "more": more, "subscribed": subscribed}))
