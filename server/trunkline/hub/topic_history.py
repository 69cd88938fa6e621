"""The call ``history``: the events that a topic keeps, without a subscription."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from trunkline.broker.base import Joined
from trunkline.hub.dispatch import Handlers, answering
from trunkline.hub.principal import not_granted
from trunkline.hub.topic_spaces import TopicSpaces
from trunkline_protocol.calls import Call
from trunkline_protocol.errors import ErrorCode, RpcError
from trunkline_protocol.events import Event, Position
from trunkline_protocol.hub_messages import MAX_HISTORY, History, HistoryParams, StoredEvent, TopicGap
from trunkline_protocol.hub_methods import HISTORY
from trunkline_protocol.principals import DEFAULT_TENANT
from trunkline_protocol.tenants import tenant_and_name
from trunkline_protocol.topics import valid_topic

MAX_BYTES: Final = 1024 * 1024
"""Bytes of the events' data in one answer; one event is answered in any case."""

_encoder: Final = msgspec.json.Encoder()


class TopicHistory:
    """Answers ``history`` from what the brokers of tenants keep."""

    def __init__(self, spaces: TopicSpaces) -> None:
        self._spaces = spaces

    def methods(self) -> Handlers:
        """The handler of ``history``."""
        return answering(HISTORY, self._history)

    def _history(self, call: Call, params: HistoryParams) -> None:
        topic, after = params.topic, params.after
        if not valid_topic(topic):
            raise RpcError(ErrorCode.INVALID_PARAMS, f"history: {topic!r:.300} is not a valid topic, without wildcards")
        caller = call.caller()
        if caller is not None and not caller.may_subscribe(topic):
            raise not_granted(caller, "subscribe", topic)
        asked = None if after is None else Position(after.epoch, after.offset)
        broker = self._spaces.of(DEFAULT_TENANT if caller is None else caller.tenant, topic).broker

        def all_kept(answer: Joined | RpcError) -> None:
            _settle(call, topic, params.limit, asked, answer)

        def joined(answer: Joined | RpcError) -> None:
            if isinstance(answer, Joined) and not answer.recovered and answer.head != asked:
                broker.join(topic, None, all_kept, latest=MAX_HISTORY)
            else:
                all_kept(answer)

        if asked is None:
            broker.join(topic, None, all_kept, latest=params.limit)
        else:
            broker.join(topic, asked, joined)


def _settle(call: Call, topic: str, limit: int, asked: Position | None, answer: Joined | RpcError) -> None:
    if isinstance(answer, RpcError):
        call.settle_error(answer)
        return
    head = answer.head
    if asked is None:
        events = _fitting(answer.missed[::-1], limit)[::-1]
        more = False
    else:
        events = _fitting(answer.missed, limit)
        more = len(events) < len(answer.missed)
    said = History(topic, head.epoch, head.offset, [_stored(event) for event in events], more)
    if asked is not None:
        said.gap = _gap(topic, asked, head, answer.missed)
    call.settle_result(_encoder.encode(said))


def _fitting(events: Sequence[Event], limit: int) -> Sequence[Event]:
    """As many of the first events as one answer may have."""
    size = 0
    for number, event in enumerate(events[:limit]):
        size += len(event.data)
        if size > MAX_BYTES and number:
            return events[:number]
    return events[:limit]


def _gap(topic: str, asked: Position, head: Position, kept: Sequence[Event]) -> TopicGap | None:
    """What is missing between a position and the first event that is kept after it."""
    follows = asked.epoch == head.epoch and asked.offset <= head.offset
    first = asked.offset + 1 if follows else 1
    last = kept[0].offset - 1 if kept else head.offset
    if follows and last < first:
        return None
    count = last - first + 1 if follows else None
    return TopicGap(topic, head.epoch, first, last, "history" if follows else "epoch", count)


def _stored(event: Event) -> StoredEvent:
    data = msgspec.Raw(event.data)
    tenant, publisher = tenant_and_name(event.publisher)
    return StoredEvent(event.topic, data, event.epoch, event.offset, event.published_at, publisher, tenant)
