"""Groups of executors, and which of them serve which methods. Pure: catalogues in, routes out.

Executors of a group are alike: they load the same modules with the same settings. A method may be in several groups:
its calls wait in one queue that all of them take from. Methods with a routing key are in one group only, the state
group, whose executors own the slots of the keys.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from trunkline.defaults import Strategy
from trunkline.executors.balancing import SCORES, choose, performance
from trunkline.executors.handle import ExecutorHandle
from trunkline.executors.queueing import DEFAULT_GROUP, RoutingKeys
from trunkline.executors.supervisor import ExecutorSpec
from trunkline_protocol.backlog import Account
from trunkline_protocol.calls import Call
from trunkline_protocol.catalogue import Catalogue, Lane, MethodInfo, ModuleFailure
from trunkline_protocol.errors import ErrorCode, RpcError

SLOW_FROM: Final = 0.005
"""Seconds from which on run times are measured: differences between quicker calls are not worth it."""

FORGETTING: Final = 0.02
"""The part of its difference to the fastest that a measured run time loses at each look."""


@dataclass(frozen=True, slots=True)
class GroupSpec:
    """A group, as configured.

    Attributes:
        executor: how its executors are started.
        size: how many there are.
        techniques: those that are bound to this group; see :class:`Route`.
        queue_limit: calls that may wait for it; None for no limit of its own.
    """

    name: str
    executor: ExecutorSpec
    size: int
    strategy: Strategy = "performance_based"
    techniques: frozenset[str] = frozenset()
    queue_limit: int | None = None


class ExecutorGroup:
    """A group at run time.

    Attributes:
        methods: the catalogue entries of what its executors serve, by name.
        queues: the keys of the shared queues that its executors take calls from; the one whose turn is next is first.
        account: counts the calls that wait for it alone; None where that is not told apart.
        mean_run: mean run time of its calls, in seconds.
    """

    def __init__(self, spec: GroupSpec, executors: Sequence[ExecutorHandle]) -> None:
        self.name = spec.name
        self.spec = spec
        self.executors = executors
        self.account: Account | None = None
        self.methods: dict[str, MethodInfo] = {}
        self.queues: deque[frozenset[str]] = deque()
        self.mean_run = 0.01
        self._score = SCORES[spec.strategy]
        self._turn = 0

    def choose(self, lane: Lane, now: float, times: Mapping[int, float]) -> ExecutorHandle | None:
        """The executor for a call, by the group's strategy; None where none has room."""
        turn = self._turn = self._turn + 1
        return choose(self.executors, lane, turn, now, self._score, times)

    @property
    def words(self) -> str:
        """What is put before what is said of it; empty for the one that there is by default."""
        return "" if self.name == DEFAULT_GROUP else f"group {self.name}, "

    @property
    def has_told(self) -> bool:
        """Whether it is known what the group serves: an executor was ready, or has said why it cannot be."""
        return bool(self.methods) or any(handle.failed_modules for handle in self.executors)


def make_groups(
    specs: Sequence[GroupSpec],
    on_frame: Callable[[ExecutorHandle, int, int, bytes], None],
    on_lost: Callable[[ExecutorHandle], None],
) -> list[ExecutorGroup]:
    """The groups, with handles that have the places 0, 1, ... in order; see :class:`.handle.ExecutorHandle`."""
    groups = []
    places = itertools.count()
    for spec in specs:
        slots = spec.executor.max_concurrency
        groups.append(
            ExecutorGroup(
                spec,
                [
                    ExecutorHandle(next(places), on_frame, on_lost, slots, spec.name, number)
                    for number in range(spec.size)
                ],
            )
        )
    return groups


def methods_of(handle: ExecutorHandle) -> Sequence[MethodInfo]:
    """What an executor serves; nothing before it is ready."""
    return () if handle.catalogue is None else handle.catalogue.methods


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

    __slots__ = ("_executors", "_turn", "bound", "groups", "others", "param", "queue", "times")

    def __init__(self, info: MethodInfo, groups: Sequence[ExecutorGroup], times: dict[int, float]) -> None:
        self.groups = groups
        self.queue = frozenset(group.name for group in groups)
        self.times = times
        self._executors = [handle for group in groups for handle in group.executors]
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
                self.bound[technique] = Route(bare, bound, times)
            free = [group for group in groups if not group.spec.techniques]
            self.others = Route(bare, free, times) if free else None

    def choose(self, lane: Lane, now: float) -> ExecutorHandle | None:
        """The executor for a call, None where none has room. Where several groups serve, no group's strategy counts."""
        groups = self.groups
        if len(groups) == 1:
            return groups[0].choose(lane, now, self.times)
        self._turn += 1
        return choose(self._executors, lane, self._turn, now, performance, self.times)

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

    Attributes:
        methods: the catalogue entries of all methods, by name.
        state: the group whose executors own the slots of routing keys; None before one is known.
    """

    def __init__(self, groups: Sequence[ExecutorGroup]) -> None:
        self._groups = groups
        self._params = RoutingKeys()
        self.methods: dict[str, MethodInfo] = {}
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
        technique = self._params.optional(info, route.param, call.params)
        found = route.bound.get(technique, route.others)
        if found is None:
            raise RpcError(
                ErrorCode.PIPELINE_NOT_FOUND,
                f"{call.method}: no group of executors serves the technique {technique!r:.80}; those of the groups "
                f"{', '.join(group.name for group in route.groups)} are: {', '.join(route.bound)}",
            )
        return found

    def starting(self) -> list[ExecutorGroup]:
        """The groups of which it is not known yet what they serve."""
        return [group for group in self._groups if not group.has_told]

    def learn(self, group: ExecutorGroup, catalogue: Catalogue) -> Catalogue:
        """Add what an executor of a group serves; returns its catalogue without what other groups contradict."""
        refused: dict[str, ModuleFailure] = {}
        accepted = []
        for info in catalogue.methods:
            why = self._contradiction(group, info)
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
        before = dict(group.methods)
        group.methods.update((info.name, info) for info in accepted)
        if group.methods != before:
            self.rebuild()
        if not refused:
            return catalogue
        return msgspec.structs.replace(catalogue, methods=accepted, failed=[*catalogue.failed, *refused.values()])

    def drop(self, packs: Collection[str]) -> None:
        """Remove the methods of packs from the groups whose executors do not serve them any more."""
        dropped = False
        for group in self._groups:
            served = {info.name for handle in group.executors for info in methods_of(handle)}
            for name in [name for name, info in group.methods.items() if info.pack in packs and name not in served]:
                del group.methods[name]
                dropped = True
        if dropped:
            self.rebuild()

    def forget(self) -> None:
        """See :meth:`Route.forget`; to be called every now and then."""
        for route in self.by_method.values():
            route.forget()

    def rebuild(self) -> None:
        """Make methods and routes anew from what the groups serve."""
        serving: dict[str, list[ExecutorGroup]] = {}
        self.methods.clear()
        for group in self._groups:
            for name, info in group.methods.items():
                self.methods.setdefault(name, info)
                serving.setdefault(name, []).append(group)
        old, self.by_method = self.by_method, {}
        for name, groups in serving.items():
            times = old[name].times if name in old else {}
            self.by_method[name] = Route(self.methods[name], groups, times)
        queues = dict.fromkeys(each.queue for route in self.by_method.values() for each in route.all())
        for group in self._groups:
            group.queues = deque(queue for queue in queues if group.name in queue)

    def _contradiction(self, group: ExecutorGroup, info: MethodInfo) -> str | None:
        if info.routing_key is not None and self.state not in (None, group):
            assert self.state is not None
            return (
                f"{info.name} has a routing key, and the groups {self.state.name} and {group.name} both have such "
                "methods; name their modules in one of these groups only, for one group owns all routing keys"
            )
        for other in self._groups:
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
