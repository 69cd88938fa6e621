"""Groups of executors, and which of them serve which methods. Pure: catalogues in, routes out.

Executors of a group are alike: they load the same modules with the same settings. A method may be in several groups:
its calls wait in one queue that all of them take from. Methods with a routing key are in one group only, the state
group, whose executors own the slots of the keys.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec

from trunkline.executors.balancing import SCORES, choose, performance
from trunkline.executors.handle import ExecutorHandle
from trunkline.executors.queueing import ANYWHERE, Queue, RoutingKeys, default_of
from trunkline.executors.specs import GroupSpec
from trunkline_protocol.backlog import Account
from trunkline_protocol.calls import Call
from trunkline_protocol.catalogue import Catalogue, Lane, MethodInfo, ModuleFailure, TopicInfo
from trunkline_protocol.errors import ErrorCode, RpcError
from trunkline_protocol.tenants import NOTHING_SHARED, SharedNames

SLOW_FROM: Final = 0.005
"""Seconds from which on run times are measured: differences between quicker calls are not worth it."""

MEAN_SHARE: Final = 0.05
"""The share of the newest call in the mean run time of a group."""

FORGETTING: Final = 0.02
"""The part of its difference to the fastest that a measured run time loses at each look."""


PIPELINE_PARAM: Final = "pipeline_id"
"""The parameter that names a pipeline, in methods that have a technique."""


class ExecutorGroup:
    """A group at run time.

    Args:
        pool: all executors of the pool by index, whatever process is there now.
        indexes: of those that are the group's.

    Attributes:
        methods: the catalogue entries of what its executors serve, by name.
        topics: what their modules declare of topics, by pattern.
        account: counts the calls that wait for it alone; None where that is not told apart.
        mean_run: mean run time of its calls, in seconds.
    """

    def __init__(self, spec: GroupSpec, pool: Sequence[ExecutorHandle], indexes: range) -> None:
        self.name = spec.name
        self.spec = spec
        self.indexes = indexes
        self.account: Account | None = None
        self.methods: dict[str, MethodInfo] = {}
        self.topics: dict[str, TopicInfo] = {}
        self.mean_run = 0.01
        self.score = SCORES[spec.strategy]
        self._pool = pool

    @property
    def executors(self) -> list[ExecutorHandle]:
        """Its executors, those that get traffic now."""
        return [self._pool[index] for index in self.indexes]

    @property
    def has_told(self) -> bool:
        """Whether it is known what the group serves: an executor was ready, or has said why it cannot be."""
        told = (handle.catalogue is not None or handle.failed_modules for handle in self.executors)
        return bool(self.methods) or any(told)

    def own(self, by_index: Mapping[int, str]) -> dict[int, str]:
        """What is said of its executors, by their number in the group, of what is said of all by index."""
        return {index - self.indexes.start: words for index, words in by_index.items() if index in self.indexes}

    def update(self, newest: Catalogue) -> None:
        """Take what the group serves from its executors' catalogues, those entries that several have from the newest.

        What only an executor can have served that is not ready again stays.
        """
        catalogues = [handle.catalogue for handle in self.executors]
        known = {info.name: info for each in catalogues if each is not None for info in each.methods}
        if None in catalogues:
            known = self.methods | known
        self.methods = known | {info.name: info for info in newest.methods}
        topics = {topic.pattern: topic for each in catalogues if each is not None for topic in each.topics}
        if None in catalogues:
            topics = self.topics | topics
        self.topics = topics | {topic.pattern: topic for topic in newest.topics}


def make_groups(specs: Sequence[GroupSpec], pool: Sequence[ExecutorHandle]) -> list[ExecutorGroup]:
    """The groups of a pool whose executors are in their order."""
    groups, first = [], 0
    for spec in specs:
        groups.append(ExecutorGroup(spec, pool, range(first, first + spec.size)))
        first += spec.size
    return groups


class Route:
    """Where calls of a method may run.

    Attributes:
        groups: that serve it.
        queue: the key of the queue in which its calls wait.
        times: how long it takes in each executor, where that is worth measuring.
        param: the parameter that names a technique, where a technique is bound to some of the groups; else None.
        bound: the routes of techniques that groups list.
        others: the route of all other techniques, through the groups that list none; None where each lists some.
    """

    __slots__ = ("_executors", "_only", "_score", "_turn", "bound", "groups", "others", "param", "queue", "times")

    def __init__(
        self, info: MethodInfo, groups: Sequence[ExecutorGroup], times: dict[int, float], everybody: int
    ) -> None:
        self.groups = groups
        self.times = times
        self._executors = [
            handle
            for group in groups
            for handle in group.executors
            if handle.catalogue is None or handle.offers(info.name)
        ]
        self._only = self._executors[0] if len(self._executors) == 1 else None
        self.queue: Queue = ANYWHERE
        if len(self._executors) < everybody:
            self.queue = frozenset(handle.index for handle in self._executors)
        self._score = groups[0].score if len(groups) == 1 else performance
        self._turn = 0
        self.param: str | None = None
        self.bound: dict[str, Route] = {}
        self.others: Route | None = None
        listed = {technique for group in groups for technique in group.spec.techniques}
        if info.technique is not None and listed:
            self.param = info.technique
            bare = msgspec.structs.replace(info, technique=None)
            for technique in sorted(listed):
                bound = [group for group in groups if technique in group.spec.techniques]
                self.bound[technique] = Route(bare, bound, times, everybody)
            free = [group for group in groups if not group.spec.techniques]
            self.others = Route(bare, free, times, everybody) if free else None

    def choose(self, lane: Lane) -> ExecutorHandle | None:
        """The executor for a call, None where none has room. Where several groups serve, no group's strategy counts."""
        if self._only is not None:  # there is nothing to choose, and most hubs have few executors
            ready = self._only.state == "ready" and not self._only.silent and self._only.has_room(lane)
            return self._only if ready else None
        self._turn += 1
        return choose(self._executors, lane, self._turn, self._score, self.times)

    def observe(self, handle: ExecutorHandle, seconds: float) -> None:
        """Note how long a call has run."""
        known = self.times.get(handle.index, seconds)
        self.times[handle.index] = known + (seconds - known) * 0.3

    def forget(self) -> None:
        """Let measured times approach the fastest, so that an executor that was slow is tried again."""
        if len(self.times) > 1:
            fastest = min(self.times.values())
            for place, own in self.times.items():
                self.times[place] = own + (fastest - own) * FORGETTING

    def all(self) -> Iterator[Route]:
        """The route itself, and those of techniques."""
        yield self
        yield from self.bound.values()
        if self.others is not None:
            yield self.others


class Routes:
    """The routes of all methods.

    Args:
        groups: all of them, in the order of the configuration.
        technique_of: the technique of a pipeline, by its id; None where there is no such pipeline.
        shared_collections: those that all tenants have in common.

    Attributes:
        methods: the catalogue entries of all methods, by name.
        by_method: the routes, by the method's name.
        keys: reads the parameters by which calls are routed.
        state: the group whose executors own the slots of routing keys; None before one is known.
    """

    def __init__(
        self,
        groups: Sequence[ExecutorGroup],
        technique_of: Callable[[str], str | None] = lambda _id: None,
        shared_collections: SharedNames = NOTHING_SHARED,
    ) -> None:
        self.groups = groups
        self._technique_of = technique_of
        self.keys = RoutingKeys(shared_collections)
        self.methods: dict[str, MethodInfo] = {}
        self.topics: dict[str, TopicInfo] = {}
        self.by_method: dict[str, Route] = {}
        self.state = groups[0] if len(groups) == 1 else None

    def of(self, call: Call) -> Route:
        """The route of a call whose method is known.

        Raises:
            RpcError: 3001, no group serves the technique that it asks for; -32602, that is no string.
        """
        route = self.by_method[call.method]
        if route.param is None:
            return route
        info = self.methods[call.method]
        technique = self._technique(info, route.param, call.params)
        if technique is None:
            return route.others or route
        found = route.bound.get(technique, route.others)
        if found is None:
            raise RpcError(
                ErrorCode.PIPELINE_NOT_FOUND,
                f"{call.method}: no group of executors serves the technique {technique!r:.80}; those of the groups "
                f"{', '.join(group.name for group in route.groups)} are: {', '.join(route.bound)}",
            )
        return found

    def _technique(self, info: MethodInfo, name: str, params: bytes) -> str | None:
        """The technique that a call names, or else that of the pipeline which it names, or the parameter's default."""
        technique = self.keys.optional(info, name, params)
        if technique is None and any(each.name == PIPELINE_PARAM for each in info.parameters):
            pipeline_id = self.keys.optional(info, PIPELINE_PARAM, params)
            technique = None if pipeline_id is None else self._technique_of(pipeline_id)
        return default_of(info, name) if technique is None else technique

    def starting(self) -> list[ExecutorGroup]:
        """The groups of which it is not known yet what they serve."""
        return [group for group in self.groups if not group.has_told]

    def accept(self, group: ExecutorGroup, catalogue: Catalogue) -> Catalogue:
        """The catalogue of an executor of a group without what other groups contradict, which is among the failures."""
        refused: dict[str, ModuleFailure] = {}
        accepted = []
        differing = self._differing(group, catalogue.topics)
        for pack, words in differing.items():
            refused[pack] = ModuleFailure(pack, ErrorCode.INVALID_CONFIGURATION, words)
        for info in catalogue.methods:
            why = differing.get(info.pack) or self._contradiction(group, info)
            if why is None:
                accepted.append(info)
                if info.routing_key is not None:
                    self.state = group
                continue
            known = refused.get(info.pack)
            refused[info.pack] = ModuleFailure(
                info.pack,
                ErrorCode.INVALID_CONFIGURATION,
                why if known is None else known.message,
                [*([] if known is None else known.methods), info.name],
            )
        if not refused:
            return catalogue
        failed = [*catalogue.failed, *refused.values()]
        topics = [topic for topic in catalogue.topics if topic.pack not in differing]
        return msgspec.structs.replace(catalogue, methods=accepted, failed=failed, topics=topics)

    def drop(self, packs: Collection[str]) -> None:
        """Remove the methods of packs from the groups whose executors do not serve them any more."""
        for group in self.groups:
            for name in [name for name, info in group.methods.items() if info.pack in packs]:
                if not any(handle.offers(name) for handle in group.executors):
                    del group.methods[name]
            catalogues = [handle.catalogue for handle in group.executors if handle.catalogue is not None]
            told = {topic.pattern for catalogue in catalogues for topic in catalogue.topics}
            group.topics = {
                name: topic for name, topic in group.topics.items() if topic.pack not in packs or name in told
            }
        self.rebuild()

    def forget(self) -> None:
        """See :meth:`Route.forget`; to be called every now and then."""
        for route in self.by_method.values():
            route.forget()

    def rebuild(self) -> None:
        """Make methods, routes and the queues of executors anew from what the groups serve."""
        serving: dict[str, list[ExecutorGroup]] = {}
        self.methods.clear()
        self.topics.clear()
        for group in self.groups:
            self.topics.update(group.topics)
            for name, info in group.methods.items():
                self.methods.setdefault(name, info)
                serving.setdefault(name, []).append(group)
        executors = [handle for group in self.groups for handle in group.executors]
        old, self.by_method = self.by_method, {}
        for name, groups in serving.items():
            times = old[name].times if name in old else {}
            self.by_method[name] = Route(self.methods[name], groups, times, len(executors))
        queues = dict.fromkeys(each.queue for route in self.by_method.values() for each in route.all())
        for handle in executors:
            shared = (each for each in queues if isinstance(each, frozenset) and handle.index in each)
            handle.queues = (handle.place, ANYWHERE, *shared)

    def _differing(self, group: ExecutorGroup, topics: Iterable[TopicInfo]) -> dict[str, str]:
        """The packs of a group that declare a topic otherwise than those of other groups, and what to tell of each.

        One pack in several groups may do so: their executors are replaced one after the other when its code changes.
        """
        found: dict[str, str] = {}
        for topic in topics:
            for other in self.groups:
                known = other.topics.get(topic.pattern)
                if other is group or known is None or known.pack == topic.pack:
                    continue
                if (why := topic.contradicts(known)) is not None:
                    found.setdefault(topic.pack, why)
        return found

    def _contradiction(self, group: ExecutorGroup, info: MethodInfo) -> str | None:
        if info.routing_key is not None and self.state not in (None, group):
            assert self.state is not None
            return (
                f"{info.name} has a routing key, and the groups {self.state.name} and {group.name} both have such "
                "methods; name their modules in one of these groups only, for one group owns all routing keys"
            )
        for other in self.groups:
            if other is not group and name_differs(other.methods.get(info.name), info):
                return (
                    f"{info.name} is declared otherwise in the group {other.name} than in {group.name}; serve the same "
                    "code in both, or give one of them another name"
                )
        return None


def name_differs(known: MethodInfo | None, info: MethodInfo) -> bool:
    """Whether two groups serve different things under one name, so that a call could not go to either."""
    return known is not None and _contract(known) != _contract(info)


def _contract(info: MethodInfo) -> tuple[Any, ...]:
    return (info.lane, info.streaming, info.idempotent, info.routing_key, info.technique, info.input is None)
