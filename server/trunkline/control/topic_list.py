"""``system.topics``: the topics that spoke last, and who hears them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Final, Protocol

import msgspec

from trunkline.broker.base import TopicStanding
from trunkline.control.calls import require_admin
from trunkline.control.method import describe
from trunkline.hub.client_calls import decode_params
from trunkline_protocol.calls import Call

MAX_TOPICS: Final = 500

_encoder: Final = msgspec.json.Encoder()


class TopicsView(Protocol):
    """The hub's topics, as far as they are needed here."""

    def recent(self, limit: int) -> list[tuple[TopicStanding, int]]:
        """The topics that spoke last, the last one first, and how many connections hear each."""


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
        rows = [
            {
                "topic": standing.topic,
                "epoch": standing.head.epoch,
                "offset": standing.head.offset,
                "kept": standing.kept,
                "subscribers": subscribers,
            }
            for standing, subscribers in self._topics.recent(limit)
        ]
        call.settle_result(_encoder.encode({"topics": rows}))
