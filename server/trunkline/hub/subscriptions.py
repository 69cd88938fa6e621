"""Publish and subscribe: the calls, and the delivery of events from the broker to the connections."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

import msgspec
import orjson

from trunkline.broker.base import Broker, Joined, PublishKey, TopicStanding
from trunkline.hub.connection import ClientCall, Connection
from trunkline.hub.dispatch import Handlers, answering, answering_connection
from trunkline.hub.fanout import Fanout
from trunkline.hub.limits import ConnectionLimits
from trunkline.hub.outbox import Outbox
from trunkline.hub.subscription_totals import SubscriptionTotals
from trunkline_protocol.calls import Call, Caller
from trunkline_protocol.codecs.jsonrpc import encode_gap
from trunkline_protocol.depth import CARRIED_DEPTH, require_depth
from trunkline_protocol.errors import ErrorCode, RpcError, limit_error
from trunkline_protocol.events import Event, Position
from trunkline_protocol.hub_messages import (
    Published,
    PublishParams,
    Subscribed,
    SubscribeParams,
    Unsubscribed,
    UnsubscribeParams,
)
from trunkline_protocol.hub_methods import PUBLISH, SUBSCRIBE, UNSUBSCRIBE
from trunkline_protocol.topics import (
    PatternSet,
    TopicIndex,
    covers,
    is_hubs_own,
    is_job,
    is_system,
    is_wildcard,
    valid_pattern,
    valid_topic,
)
from trunkline_protocol.values import json_is_too_much, too_much

_encoder: Final = msgspec.json.Encoder()


class Subscriptions:
    """The subscriptions of all connections, and the delivery of events to them.

    Args:
        broker: stores and orders events.
        fanout: sends events to connections.
        limits: of subscriptions, and of deliveries that may wait.
        on_system_interest: called when subscriptions that reach ``system.`` topics have changed.
        unsigned: topics and patterns whose events do not name their publisher.
    """

    def __init__(
        self,
        broker: Broker,
        fanout: Fanout,
        limits: ConnectionLimits,
        on_system_interest: Callable[[], None],
        unsigned: Iterable[str] = (),
    ) -> None:
        self._broker = broker
        self._fanout = fanout
        self._limits = limits
        self._on_system_interest = on_system_interest
        self._index: TopicIndex[Outbox] = TopicIndex()
        self.totals = SubscriptionTotals(limits.max_subscriptions_per_principal)
        self._patterns: dict[Connection, PatternSet] = {}
        self._unsigned: PatternSet | None = None  # nearly always: each publication would ask it
        for pattern in unsigned:
            self._unsigned = self._unsigned or PatternSet()
            self._unsigned.add(pattern)
        self.count = 0
        self.published = 0
        broker.start(self._deliver)

    def methods(self) -> Handlers:
        """Handlers of ``subscribe``, ``unsubscribe`` and ``publish``."""
        return (
            answering_connection(SUBSCRIBE, self._subscribe)
            | answering_connection(UNSUBSCRIBE, self._unsubscribe)
            | answering(PUBLISH, self._publish)
        )

    def reaches(self, topic: str) -> bool:
        """Whether any connection would get an event of this topic."""
        return self._index.reaches(topic)

    def announce(self, topic: str, data: Any) -> None:
        """Publish an event of the hub itself; dropped where a tenth of ``max_backlog`` waits: others come first."""
        if self._fanout.backlog < self._limits.max_backlog // 10:
            self._broker.publish(topic, _encoder.encode(data), None, lambda _: None)

    @property
    def deliveries(self) -> int:
        """How many deliveries (one event to one connection) there were so far."""
        return self._fanout.deliveries

    def recent(self, limit: int) -> tuple[list[tuple[TopicStanding, int]], int]:
        """The topics with the latest events, latest first, and the number of subscribers of each; and how many more."""
        standings, more = self._broker.recent(limit)
        return [(standing, len(self._index.match(standing.topic))) for standing in standings], more

    def patterns(self) -> Iterator[tuple[str, int]]:
        """Each subscribed topic or pattern, and its number of subscribers."""
        return self._index.patterns()

    # --- calls ---

    def _subscribe(self, call: ClientCall, params: SubscribeParams) -> None:
        connection, topic = call.connection, params.topic
        if not valid_pattern(topic):
            raise _bad_topic(topic, "pattern")
        if not connection.principal.may_subscribe(topic):
            raise RpcError(ErrorCode.FORBIDDEN, f"{connection.principal.name} may not subscribe to {topic}")
        if topic not in connection.subscriptions:
            self._require_room(connection, topic)
        if params.recover is not None and params.history:
            raise RpcError(ErrorCode.INVALID_PARAMS, "subscribe: either recover or history: both say where to begin")
        if not is_wildcard(topic):
            recover = Position(params.recover.epoch, params.recover.offset) if params.recover is not None else None

            def joined(answer: Joined | RpcError) -> None:
                self._joined(call, connection, topic, recover, answer)

            self._broker.join(topic, recover, joined, latest=params.history)
        elif params.recover is not None or params.history:
            raise RpcError(
                ErrorCode.INVALID_PARAMS,
                f"subscribe: {topic} is a pattern and has no position; recover its topics one by one",
            )
        else:
            self._add(connection, topic)
            call.settle_result(_encoder.encode(Subscribed(topic, None, 0, recovered=False)))

    def _require_room(self, connection: Connection, pattern: str) -> None:
        if len(connection.subscriptions) >= self._limits.max_subscriptions:
            raise limit_error(
                "max_subscriptions",
                f"this connection has {len(connection.subscriptions)} subscriptions; use a pattern, or unsubscribe",
                retry_after_ms=None,
            )
        self.totals.require(connection.principal.name, pattern)

    def _joined(
        self, call: Call, connection: Connection, topic: str, asked: Position | None, answer: Joined | RpcError
    ) -> None:
        if isinstance(answer, RpcError):
            call.settle_error(answer)
            return
        if call.settled:  # cancelled, timed out or disconnected meanwhile
            return
        position = answer.position
        subscribed = Subscribed(topic, position.epoch, position.offset, answer.recovered)
        call.settle_result(_encoder.encode(subscribed))
        if asked is not None and not answer.recovered and asked != answer.head:
            connection.outbox.send_gap(_missed(topic, asked, answer.head))
        if answer.missed:
            # Events that wait for this connection, for another subscription, are part of the replay: not twice.
            connection.outbox.withhold(topic, position)
            self._fanout.withhold(connection.outbox, topic, position)
            connection.outbox.replay(event.encode() for event in answer.missed)
        self._add(connection, topic)

    def _add(self, connection: Connection, pattern: str) -> None:
        if pattern in connection.subscriptions:
            return
        principal = connection.principal.name
        self.totals.add(principal, pattern)
        connection.subscriptions[pattern] = principal
        self.count += 1
        self._index.add(pattern, connection.outbox)
        if is_wildcard(pattern):
            patterns = self._patterns.get(connection)
            if patterns is None:
                patterns = self._patterns[connection] = PatternSet()
            patterns.add(pattern)
        if is_system(pattern):
            self._on_system_interest()

    def _unsubscribe(self, call: ClientCall, params: UnsubscribeParams) -> None:
        connection, pattern = call.connection, params.topic
        known = pattern in connection.subscriptions
        if known:
            self._remove(connection, pattern)
            wanted = self._still_wanted(connection, pattern)
            connection.outbox.forget_events(wanted)
            self._fanout.leave(connection.outbox, wanted)
        call.settle_result(_encoder.encode(Unsubscribed(pattern, known)))

    def _still_wanted(self, connection: Connection, removed: str) -> Callable[[str], bool]:
        """A function: whether a connection still subscribes to a topic after a pattern was removed."""
        exact, patterns = connection.subscriptions, self._patterns.get(connection)
        known: dict[str, bool] = {}

        def wanted(topic: str) -> bool:
            answer = known.get(topic)
            if answer is None:
                answer = known[topic] = (
                    not covers(removed, topic) or topic in exact or (patterns is not None and patterns.reaches(topic))
                )
            return answer

        return wanted

    def _remove(self, connection: Connection, pattern: str) -> None:
        self.totals.remove(connection.subscriptions.pop(pattern), pattern)
        self.count -= 1
        self._index.remove(pattern, connection.outbox)
        if (patterns := self._patterns.get(connection)) is not None:
            patterns.remove(pattern)
            if not len(patterns):
                del self._patterns[connection]
        if is_system(pattern):
            self._on_system_interest()

    def forget(self, connection: Connection) -> None:
        """Remove all subscriptions of a connection."""
        for pattern in tuple(connection.subscriptions):
            self._remove(connection, pattern)

    def _publish(self, call: Call, params: PublishParams) -> None:
        topic, data = params.topic, bytes(params.data)
        caller = call.caller()
        _require_publishable(caller, topic, data)
        waiting = self._fanout
        if waiting.backlog > self._limits.max_backlog or waiting.events > self._limits.max_waiting_events:
            raise RpcError(
                ErrorCode.WORKER_OVERLOADED,
                f"{waiting.events} events ({waiting.backlog} deliveries) wait to be sent already; publish more slowly",
                retry_after_ms=200,
            )

        def done(answer: Position | RpcError) -> None:
            if isinstance(answer, RpcError):
                call.settle_error(answer)
            else:
                call.settle_result(_encoder.encode(Published(topic, answer.epoch, answer.offset)))

        key = params.idempotency_key
        name = "" if caller is None else caller.name
        publisher = "" if self._unsigned is not None and self._unsigned.reaches(topic) else name
        self._broker.publish(topic, data, None if key is None else PublishKey(name, key), done, publisher)

    # --- events ---

    def _deliver(self, event: Event) -> None:
        self.published += 1
        index, topic = self._index, event.topic
        outboxes = index.exact(topic) if is_job(topic) else index.match(topic)
        if outboxes:
            self._fanout.deliver(event.encode(), outboxes)


def _missed(topic: str, asked: Position, head: Position) -> bytes:
    if asked.epoch == head.epoch and asked.offset < head.offset:
        first = asked.offset + 1
        return encode_gap(topic, head.epoch, first, head.offset, head.offset - asked.offset, "history")
    return encode_gap(topic, head.epoch, 1, head.offset, None, "epoch")


def _require_publishable(caller: Caller | None, topic: str, data: bytes) -> None:
    if not valid_topic(topic):
        raise _bad_topic(topic, "topic")
    if caller is None or not caller.may_publish(topic):  # nobody may publish to the hub's own
        if is_hubs_own(topic):
            raise RpcError(ErrorCode.FORBIDDEN, f"{topic}: topics under system., and those of jobs, are the hub's own")
        if caller is not None:
            raise RpcError(ErrorCode.FORBIDDEN, f"{caller.name} may not publish to {topic}")
    if json_is_too_much(data):
        raise too_much("publish: data")
    require_depth(data, "publish: data", levels=CARRIED_DEPTH)
    try:
        orjson.loads(data)
    except orjson.JSONDecodeError as error:
        # Subscribers get these bytes unchanged: JSON that some parser refuses (1e400) must not reach any.
        raise RpcError(ErrorCode.INVALID_PARAMS, f"publish: data: {error}") from error


def _bad_topic(topic: str, kind: str) -> RpcError:
    return RpcError(
        ErrorCode.INVALID_PARAMS,
        f"{topic!r:.300} is not a valid {kind}: 1 to 32 tokens joined by dots, 256 characters at most, without blanks"
        + (", * and > only as whole tokens, > only as the last" if kind == "pattern" else " and wildcards"),
    )
