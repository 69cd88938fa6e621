"""Publish and subscribe: the calls, and the delivery of events from the broker to the connections."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, Final, NamedTuple

import msgspec
import orjson

from trunkline.broker.base import Joined, PatternJoined, PublishKey, Recovery, TopicStanding
from trunkline.hub.connection import ClientCall, Connection
from trunkline.hub.dispatch import Handlers, answering, answering_connection
from trunkline.hub.fanout import Fanout
from trunkline.hub.limits import ConnectionLimits
from trunkline.hub.principal import not_granted
from trunkline.hub.subscription_totals import SubscriptionTotals
from trunkline.hub.topic_spaces import Index, TopicSpace, TopicSpaces, join_pattern
from trunkline_protocol.calls import Call, Caller
from trunkline_protocol.codecs.jsonrpc import decode_metadata, encode_gap
from trunkline_protocol.depth import CARRIED_DEPTH, require_depth
from trunkline_protocol.errors import ErrorCode, RpcError, limit_error
from trunkline_protocol.events import Event, Position
from trunkline_protocol.hub_messages import (
    MAX_POSITIONS,
    PositionParams,
    Published,
    PublishParams,
    RecoverParams,
    Subscribed,
    SubscribeParams,
    TopicGap,
    Unsubscribed,
    UnsubscribeParams,
)
from trunkline_protocol.hub_methods import PUBLISH, SUBSCRIBE, UNSUBSCRIBE
from trunkline_protocol.principals import DEFAULT_TENANT
from trunkline_protocol.tenants import key_in
from trunkline_protocol.topics import (
    PatternSet,
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


class TopicState(NamedTuple):
    """A topic of a tenant, its standing, and how many connections would get an event of it."""

    tenant: str
    standing: TopicStanding
    subscribers: int


class Subscriptions:
    """The subscriptions of all connections, and the delivery of events to them.

    Args:
        spaces: the topics of all tenants, where events are stored and ordered.
        fanout: sends events to connections.
        limits: of subscriptions, and of deliveries that may wait.
        on_system_interest: called when subscriptions that reach ``system.`` topics have changed.
        unsigned: topics and patterns whose events do not name their publisher.
        require_epoch: refuses a publication that is repeated to another hub than its first attempt
            (:meth:`trunkline.hub.idempotency.IdempotencyKeys.require_epoch`).
    """

    def __init__(
        self,
        spaces: TopicSpaces,
        fanout: Fanout,
        limits: ConnectionLimits,
        on_system_interest: Callable[[], None],
        unsigned: Iterable[str] = (),
        require_epoch: Callable[[str | None, str], None] = lambda _epoch, _what: None,
    ) -> None:
        self._spaces = spaces
        self._fanout = fanout
        self._limits = limits
        self._on_system_interest = on_system_interest
        self._require_epoch = require_epoch
        self.totals = SubscriptionTotals(limits.max_subscriptions_per_principal)
        self._patterns: dict[Connection, PatternSet] = {}
        self._unsigned: PatternSet | None = None  # nearly always: each publication would ask it
        for pattern in unsigned:
            self._unsigned = self._unsigned or PatternSet()
            self._unsigned.add(pattern)
        self.count = 0
        self.published = 0
        spaces.start(self._deliver)

    def methods(self) -> Handlers:
        """Handlers of ``subscribe``, ``unsubscribe`` and ``publish``."""
        return (
            answering_connection(SUBSCRIBE, self._subscribe)
            | answering_connection(UNSUBSCRIBE, self._unsubscribe)
            | answering(PUBLISH, self._publish)
        )

    def reaches(self, topic: str) -> bool:
        """Whether any connection would get an event of this topic of the hub's own."""
        return self._spaces.default.index.reaches(topic)

    def announce(self, topic: str, data: Any) -> None:
        """Publish an event of the hub itself; dropped where a tenth of ``max_backlog`` waits: others come first."""
        if self._fanout.backlog < self._limits.max_backlog // 10:
            self._spaces.default.broker.publish(topic, _encoder.encode(data), None, lambda _: None)

    @property
    def deliveries(self) -> int:
        """How many deliveries (one event to one connection) there were so far."""
        return self._fanout.deliveries

    def recent(self, limit: int) -> tuple[list[TopicState], int]:
        """The topics of all tenants with the latest events, latest first; and how many more there are."""
        latest = heapq.merge(*map(_latest, self._spaces), key=lambda row: -row[1].place)
        told = [
            TopicState(space.tenant, standing, len(space.index.match(standing.topic)))
            for space, standing in islice(latest, limit)
        ]
        return told, sum(space.broker.known() for space in self._spaces) - len(told)

    def subscribed(self) -> Iterator[tuple[str, str, int]]:
        """Tenant, topic or pattern, and number of subscribers, of all that is subscribed to."""
        return self._spaces.subscribed()

    # --- calls ---

    def _subscribe(self, call: ClientCall, params: SubscribeParams) -> None:
        connection, topic = call.connection, params.topic
        if not valid_pattern(topic):
            raise _bad_topic(topic, "pattern")
        if not connection.principal.may_subscribe(topic):
            raise not_granted(connection.principal, "subscribe", topic)
        if topic not in connection.subscriptions:
            self._require_room(connection, topic)
        if params.recover is not None and params.history:
            raise RpcError(ErrorCode.INVALID_PARAMS, "subscribe: either recover or history: both say where to begin")
        if is_wildcard(topic):
            if params.history:
                words = f"subscribe: {topic} is a pattern: which of its topics' events are the latest is not kept"
                raise RpcError(ErrorCode.INVALID_PARAMS, words)
            self._subscribe_pattern(call, params)
            return
        recover = None if params.recover is None else _asked(params.recover, topic)

        def joined(answer: Joined | RpcError) -> None:
            self._joined(call, connection, topic, recover, answer)

        self._spaces.of(connection.principal.tenant, topic).broker.join(topic, recover, joined, latest=params.history)

    def _subscribe_pattern(self, call: ClientCall, params: SubscribeParams) -> None:
        recovery = None if params.recover is None else _recovery(params.recover)

        def joined(answer: PatternJoined | RpcError) -> None:
            if isinstance(answer, RpcError):
                call.settle_error(answer)
            elif not call.settled:
                try:
                    self._joined_pattern(call, params.topic, recovery, answer)
                except RpcError as error:
                    call.settle_error(error)

        spaces = self._spaces.reached(call.connection.principal.tenant, params.topic)
        join_pattern(spaces, params.topic, recovery, joined)

    def _joined_pattern(self, call: ClientCall, pattern: str, recovery: Recovery | None, answer: PatternJoined) -> None:
        connection, as_of = call.connection, PositionParams(answer.head.epoch, answer.head.offset)
        is_new = pattern not in connection.subscriptions
        self._add(connection, pattern)  # before the reply: a pattern that is too dear to match is refused here
        said = Subscribed(pattern, None, 0, answer.recovered, as_of)
        if recovery is not None:
            asked = recovery.known
            said.gaps = [_gap(topic, asked.get(topic), at.head) for topic, at in answer.topics if not at.recovered]
            if any(at.missed for _, at in answer.topics):
                # Until the replay has arrived, only what was known before it may be counted on.
                said.as_of = PositionParams(recovery.as_of.epoch, recovery.as_of.offset)
        elif not is_new:
            said.as_of = None  # events are on their way that are counted in it
        call.settle_result(_encoder.encode(said))
        for topic, joined in answer.topics:
            self._replay(connection, topic, joined)

    def _require_room(self, connection: Connection, pattern: str) -> None:
        if len(connection.subscriptions) >= self._limits.max_subscriptions:
            raise limit_error(
                "max_subscriptions",
                f"this connection has {len(connection.subscriptions)} subscriptions; use a pattern, or unsubscribe",
                retry_after_ms=None,
            )
        self.totals.require(connection.principal.owner, pattern)

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
        self._replay(connection, topic, answer)
        self._add(connection, topic)

    def _replay(self, connection: Connection, topic: str, joined: Joined) -> None:
        if joined.missed:
            # Events that wait for this connection, for another subscription, are part of the replay: not twice.
            connection.outbox.withhold(topic, joined.position)
            self._fanout.withhold(connection.outbox, topic, joined.position)
            connection.outbox.replay(event.encode() for event in joined.missed)

    def _add(self, connection: Connection, pattern: str) -> None:
        if pattern in connection.subscriptions:
            return
        principal = connection.principal.owner
        self.totals.add(principal, pattern)
        connection.subscriptions[pattern] = principal
        self.count += 1
        for space in self._spaces.reached(connection.principal.tenant, pattern):
            space.index.add(pattern, connection.outbox)
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
        for space in self._spaces.reached(connection.principal.tenant, pattern):
            space.index.remove(pattern, connection.outbox)
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
        if key is not None and call.metadata:
            self._require_epoch(decode_metadata(call.metadata).idempotency_epoch, f"publish to {topic}")
        if caller is None:
            name, tenant = "", DEFAULT_TENANT
        else:
            name, tenant = caller.name, caller.tenant
        space = self._spaces.of(tenant, topic)
        own = None if key is None else PublishKey("" if caller is None else caller.owner, key)
        if self._unsigned is not None and self._unsigned.reaches(topic):
            name = ""
        elif space.tenant != tenant:  # others must not take it for a principal of theirs that has the same name
            name = key_in(tenant, name)
        space.broker.publish(topic, data, own, done, name)

    # --- events ---

    def _deliver(self, index: Index, event: Event) -> None:
        self.published += 1
        topic = event.topic
        outboxes = index.exact(topic) if is_job(topic) else index.match(topic)
        if outboxes:
            self._fanout.deliver(event.encode(), outboxes)


def _latest(space: TopicSpace) -> Iterator[tuple[TopicSpace, TopicStanding]]:
    return ((space, standing) for standing in space.broker.latest())


def _asked(params: RecoverParams, topic: str) -> Position:
    if params.topics is not None:
        words = f"subscribe: recover.topics is of patterns, and {topic} is a topic"
        raise RpcError(ErrorCode.INVALID_PARAMS, words)
    return Position(params.epoch, params.offset)


def _recovery(params: RecoverParams) -> Recovery:
    topics = params.topics or {}
    if len(topics) > MAX_POSITIONS:
        words = f"subscribe: recover.topics has {len(topics)} positions, and may have {MAX_POSITIONS}"
        raise RpcError(ErrorCode.INVALID_PARAMS, words)
    known = {topic: Position(at.epoch, at.offset) for topic, at in topics.items()}
    return Recovery(Position(params.epoch, params.offset), known)


def _missed(topic: str, asked: Position, head: Position) -> bytes:
    gap = _gap(topic, asked, head)
    return encode_gap(topic, gap.epoch, gap.first, gap.last, gap.count, gap.reason)


def _gap(topic: str, asked: Position | None, head: Position) -> TopicGap:
    """What is missing of a topic up to now after a position; None is a position that nobody knows."""
    if asked is None:
        return TopicGap(topic, head.epoch, 1, head.offset, "history")
    if asked.epoch == head.epoch and asked.offset < head.offset:
        return TopicGap(topic, head.epoch, asked.offset + 1, head.offset, "history", head.offset - asked.offset)
    return TopicGap(topic, head.epoch, 1, head.offset, "epoch")


def _require_publishable(caller: Caller | None, topic: str, data: bytes) -> None:
    if not valid_topic(topic):
        raise _bad_topic(topic, "topic")
    if caller is None or not caller.may_publish(topic):  # nobody may publish to the hub's own
        if is_hubs_own(topic):
            raise RpcError(ErrorCode.FORBIDDEN, f"{topic}: topics under system., and those of jobs, are the hub's own")
        if caller is not None:
            raise not_granted(caller, "publish", topic)
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
