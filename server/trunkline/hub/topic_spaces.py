"""The topics of tenants, kept apart: each tenant has a broker and an index of its own, and what all share has one, too.

Inside a space a topic is its name, as whoever publishes and subscribes says it. So nothing that follows (indexes,
frames, gaps, positions) knows of tenants, and a hub without them does for each event what it would do if there were
none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Final

from trunkline.broker.base import Broker, PatternJoined, Recovery
from trunkline.hub.outbox import Outbox
from trunkline_protocol.errors import RpcError
from trunkline_protocol.events import Event
from trunkline_protocol.principals import DEFAULT_TENANT
from trunkline_protocol.tenants import SharedNames
from trunkline_protocol.topics import TopicIndex, is_hubs_own, is_system, is_wildcard

SWEEP_AT: Final = 64
"""Tenants from which on those are looked for that have neither topics nor subscribers any more."""

Index = TopicIndex[Outbox]


class TopicSpace:
    """The topics of a tenant, or those that all share.

    Attributes:
        tenant: whose they are; ``default`` of those that are shared.
        broker: stores and orders their events.
        index: who subscribes to them.
    """

    __slots__ = ("broker", "index", "tenant")

    def __init__(self, tenant: str, broker: Broker) -> None:
        self.tenant = tenant
        self.broker = broker
        self.index: Index = TopicIndex()

    @property
    def is_used(self) -> bool:
        """Whether a topic of it is known, or subscribed to."""
        return not self.index.is_empty or self.broker.known() > 0


class TopicSpaces:
    """The topics of all tenants.

    A topic that one of the ``shared`` patterns reaches is the same for all. The hub's own topics are those of
    ``default``, and each job's is its tenant's, whatever is shared.

    Args:
        broker: of the tenant ``default``; those of others are made of it.
        shared: the topics that tenants have in common.
    """

    def __init__(self, broker: Broker, shared: SharedNames) -> None:
        self.default = TopicSpace(DEFAULT_TENANT, broker)
        self._names = shared
        self._shared = TopicSpace(DEFAULT_TENANT, broker.another()) if shared.patterns else None
        self._tenants: dict[str, TopicSpace] = {}
        self._sweep_at = SWEEP_AT
        self._deliver: Callable[[Index, Event], None] | None = None

    def start(self, deliver: Callable[[Index, Event], None]) -> None:
        """Start the brokers; ``deliver`` is called for each event, with the index of its space."""
        self._deliver = deliver
        for space in self:
            space.broker.start(partial(deliver, space.index))

    def __iter__(self) -> Iterator[TopicSpace]:
        """All spaces. Not to be used after a change."""
        yield self.default
        if self._shared is not None:
            yield self._shared
        yield from self._tenants.values()

    def of(self, tenant: str, topic: str) -> TopicSpace:
        """The space of a topic, as a principal of a tenant names it. Hot path: without tenants two comparisons."""
        shared = self._shared
        if shared is None and tenant == DEFAULT_TENANT:
            return self.default
        if shared is not None and self._names.reaches(topic) and not is_hubs_own(topic):
            return shared
        return self.default if is_system(topic) else self._of_tenant(tenant)

    def reached(self, tenant: str, pattern: str) -> Sequence[TopicSpace]:
        """The spaces of all topics that a pattern, or topic, of a tenant can reach: its own, the shared, or both."""
        if self._shared is None or not is_wildcard(pattern):
            return (self.of(tenant, pattern),)
        if is_system(pattern):
            return (self.default,)
        if self._names.covers(pattern):
            return (self._shared,)
        return self._of_tenant(tenant), self._shared

    def subscribed(self) -> Iterator[tuple[str, str, int]]:
        """Tenant, topic or pattern, and number of subscribers, of all that is subscribed to. Not after a change."""
        for space in self:
            for pattern, number in space.index.patterns():
                # A pattern that goes beyond what is shared is in the space of its tenant, too.
                if space is not self._shared or not is_wildcard(pattern) or self._names.covers(pattern):
                    yield space.tenant, pattern, number

    def _of_tenant(self, tenant: str) -> TopicSpace:
        if tenant == DEFAULT_TENANT:
            return self.default
        space = self._tenants.get(tenant)
        if space is None:
            if len(self._tenants) >= self._sweep_at:
                self._sweep()
            space = self._tenants[tenant] = TopicSpace(tenant, self.default.broker.another())
            if self._deliver is not None:
                space.broker.start(partial(self._deliver, space.index))
        return space

    def forget(self, tenant: str) -> None:
        """Forget all topics of a tenant, other than ``default``, whose connections are closed, and its keys."""
        self.default.broker.forget_keys(tenant)
        if (space := self._tenants.pop(tenant, None)) is not None:
            space.broker.end()

    def _sweep(self) -> None:
        """End the spaces that nobody uses. Tenants come back with new ones, which have no other positions to tell."""
        for tenant, space in tuple(self._tenants.items()):
            if not space.is_used:
                space.broker.end()
                del self._tenants[tenant]
        self._sweep_at = max(SWEEP_AT, 2 * len(self._tenants))


def join_pattern(
    spaces: Sequence[TopicSpace],
    pattern: str,
    recover: Recovery | None,
    done: Callable[[PatternJoined | RpcError], None],
) -> None:
    """As :meth:`trunkline.broker.base.Broker.join_pattern`, of several spaces as if they were one."""
    space, *others = spaces

    def joined(answer: PatternJoined | RpcError) -> None:
        if isinstance(answer, RpcError) or not others:
            done(answer)
        else:
            join_pattern(others, pattern, recover, lambda other: done(_both(answer, other)))

    space.broker.join_pattern(pattern, recover, joined)


def _both(one: PatternJoined, other: PatternJoined | RpcError) -> PatternJoined | RpcError:
    if isinstance(other, RpcError):
        return other
    recovered = one.recovered and other.recovered
    # A place of one broker is one of each. The earlier is right for both: nothing that came between is lost by it.
    return PatternJoined(one.head, recovered, one.topics + other.topics if recovered else ())
