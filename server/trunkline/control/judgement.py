"""The judgement of a hub's health, from what is seen of it at one moment and what was judged before. Pure.

============  =========================================================================
group         where
============  =========================================================================
starting      no executor answers, and all of them start for the first time
unhealthy     no executor answers, or calls of every kind wait without progress
degraded      a part cannot be served: an executor, a kind of call, a module of methods
healthy       else
============  =========================================================================

The hub is unhealthy where none of its groups can serve anything, and degraded where something of it cannot be served, a
method fails, room for data runs out, or a service elsewhere does not answer. ``ready``: something can be served, no
group starts for the first time, and the services answer that are required. A group that cannot be loaded does not make
a hub unready whose other groups serve: who probes it would take those away, too.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import msgspec

from trunkline.control.failing import FailureRate
from trunkline.control.sight import MethodSight
from trunkline.observe.metrics import OTHER_METHODS
from trunkline_protocol.catalogue import Lane, MethodInfo, ModuleFailure
from trunkline_protocol.health_reports import (
    SERVING,
    Cause,
    ExecutorReport,
    ExecutorStatus,
    GroupHealth,
    GroupSeen,
    LastError,
    MethodHealth,
    Serving,
    Status,
)
from trunkline_protocol.hub_methods import JOBS_CREATE, METHODS
from trunkline_protocol.principals import DEFAULT_TENANT
from trunkline_protocol.tenants import tenant_and_name

MAX_METHODS: Final = 100
"""Methods that one judgement lists; more are counted."""

MAX_FAILING_CAUSES: Final = 5
AWAY: Final = "no client that serves it is connected"
STOPPING: Final = "the hub is stopping"
MAX_NAMED: Final = 3
"""Executors that one cause names; more are counted."""

STARTS: Final[frozenset[ExecutorStatus]] = frozenset({"starting", "down"})
"""The statuses of an executor whose process starts next, and loads all modules."""

RELOADED: Final = "it is loaded again by trunkline reload"
LOADED_AT_START: Final = "it is loaded again when an executor starts"
STARTED_AGAIN: Final = "started again, after a pause of at most 30 s"


@dataclass(frozen=True, slots=True)
class Seen:
    """What is seen of a hub at one moment.

    Attributes:
        draining: whether the hub is stopping.
        failing: the methods that fail, by their keys.
        clients: the keys of the methods that clients serve, and whether one of their clients is connected.
        unstorable: why nothing can be stored in the data folder; None where it can.
        at: milliseconds since 1970.
        tripped: the circuit breakers that are not closed, in words, by the key of the method.
        low: what runs out, room on the disks of the data folder or the time of a certificate, in words.
        services: which services elsewhere do not answer, in words.
        missing: what is wrong with those of them that the hub is not ready without, in words.
    """

    draining: bool
    groups: Sequence[GroupSeen]
    failing: Iterable[FailureRate]
    clients: Mapping[str, bool]
    unstorable: str | None
    at: int
    tripped: Mapping[str, str] = field(default_factory=dict)
    low: Sequence[str] = ()
    services: Sequence[str] = ()
    missing: Sequence[str] = ()

    def by(self, sight: MethodSight) -> Seen:
        """What of it somebody may see: nothing of methods that clients serve in other tenants."""
        return replace(
            self,
            failing=[rate for rate in self.failing if sight.reaches(rate.method)],
            clients={key: here for key, here in self.clients.items() if sight.reaches(key)},
            tripped={key: words for key, words in self.tripped.items() if sight.reaches(key)},
        )


NEVER: Final = Serving(status="starting", ready=False, since=0, causes=[], groups=[], methods=[], methods_more=0)


def judge(seen: Seen, before: Serving) -> Serving:
    """What can be served now. ``since`` of what has not changed is that of the judgement before."""
    earlier = {group.name: group for group in before.groups}
    groups = [_group(group, earlier.get(group.name), seen.at) for group in seen.groups]
    since = {_subject(each): each.since for each in before.methods}
    found, left_out = _methods(seen, groups)
    methods = [msgspec.structs.replace(each, since=since.get(_subject(each), each.since)) for each in found]
    status = _status(seen, groups, methods)
    causes = [STOPPING] if seen.draining else []
    causes += [cause.text for group in groups for cause in group.causes]
    return Serving(
        status=status,
        ready=not seen.draining and not seen.missing and _is_ready(groups),
        since=before.since if before.status == status and before.since else seen.at,
        causes=[*causes, *seen.low, *seen.services, *seen.tripped.values(), *_in_words(methods)],
        groups=groups,
        methods=methods[:MAX_METHODS],
        methods_more=max(0, len(methods) - MAX_METHODS) + left_out,
    )


def _is_ready(groups: list[GroupHealth]) -> bool:
    if any(group.status == "starting" for group in groups):
        return False
    return not groups or any(group.ready for group in groups)


def changed(now: Serving, before: Serving) -> bool:
    """Whether a judgement says something else: not only other rates, ages and counts."""
    return _essence(now) != _essence(before)


def _essence(judged: Serving) -> object:
    groups = [
        (group.name, group.status, group.ready, [(each.kind, each.subject) for each in group.causes])
        for group in judged.groups
    ]
    return judged.status, judged.ready, len(judged.causes), groups, [_subject(each) for each in judged.methods]


def _subject(method: MethodHealth) -> tuple[str, str, str]:
    return method.tenant, method.method, method.status


def _status(seen: Seen, groups: list[GroupHealth], methods: list[MethodHealth]) -> Status:
    if seen.draining:
        return "stopping"
    if groups and not any(group.ready for group in groups):
        return "starting" if all(group.status == "starting" for group in groups) else "unhealthy"
    concerned = (
        seen.low or seen.services or seen.missing or seen.tripped or any(not is_away(method) for method in methods)
    )
    return "degraded" if concerned or any(group.status != "healthy" for group in groups) else "healthy"


# --- groups ---


def _group(seen: GroupSeen, before: GroupHealth | None, at: int) -> GroupHealth:
    known = {(each.kind, each.subject): each.since for each in before.causes} if before is not None else {}
    causes = [
        msgspec.structs.replace(cause, since=known.get((cause.kind, cause.subject), at)) for cause in _causes(seen)
    ]
    serving = sum(executor.status in SERVING for executor in seen.executors)
    ready = not seen.executors or (serving > 0 and _gets_on(seen))
    status: Status = "degraded" if causes else "healthy"
    if not ready:
        first = serving == 0 and all(each.status == "starting" and not each.restarts for each in seen.executors)
        status = "starting" if first else "unhealthy"
    since = before.since if before is not None and before.status == status else at
    return GroupHealth(seen.name, status, ready, since, len(seen.executors), serving, seen.waiting, causes)


def _gets_on(seen: GroupSeen) -> bool:
    """Whether calls of one kind at least make progress."""
    held = {each.lane for each in seen.held if each.executor is None}
    lanes = {info.lane for info in seen.methods}
    return not held or bool(lanes - held)


def _causes(seen: GroupSeen) -> Iterator[Cause]:
    unloadable = {failure.module: _ended_by(failure, seen) for failure in seen.failed}
    said = [name for names in unloadable.values() for name in names]
    for executor in seen.executors:
        status = executor.status
        if status != "ready" and status != "busy" and executor.worker_id not in said:
            yield Cause(status, executor.worker_id, 0, _trouble(executor))
    for held in seen.held:
        yield Cause("held", f"{held.lane} {held.executor or ''}".strip(), 0, held.text)
    for failure in seen.failed:
        words = f"{failure.words}; {_loaded_again(unloadable[failure.module], seen)}"
        yield Cause("not_loaded", failure.module, 0, words)
    for index, words in seen.not_replaced.items():
        yield Cause("not_replaced", seen.executors[index].worker_id, 0, words)


def _ended_by(failure: ModuleFailure, seen: GroupSeen) -> list[str]:
    """The executors whose processes ended because they could not load a module: the module's cause speaks for them."""
    return [
        executor.worker_id
        for executor in seen.executors
        if executor.status in STARTS
        and executor.last_failure is not None
        and (failure.words in executor.last_failure or failure.message == executor.last_failure)
    ]


def _loaded_again(ended: list[str], seen: GroupSeen) -> str:
    """When a module that could not be loaded is tried again."""
    if ended:
        more = [f"{len(ended) - MAX_NAMED} more"] if len(ended) > MAX_NAMED else []
        *first, last = [*ended[:MAX_NAMED], *more]
        return f"{', '.join(first)} and {last} are {STARTED_AGAIN}" if first else f"{last} is {STARTED_AGAIN}"
    statuses = {executor.status for executor in seen.executors}
    return LOADED_AT_START if statuses & STARTS and not statuses & SERVING else RELOADED


def _trouble(executor: ExecutorReport) -> str:
    name, calls = executor.worker_id, executor.active_requests
    if executor.status == "silent":
        work = f" with {calls} {'call' if calls == 1 else 'calls'}" if calls else ""
        return f"{name} is silent: its process{work} does not answer; a signal stopped it, or a method blocks it"
    why = f": {executor.last_failure}" if executor.last_failure else ""
    return f"{name} is {executor.status}{why}"


# --- methods ---


def _methods(seen: Seen, groups: list[GroupHealth]) -> tuple[list[MethodHealth], int]:
    """The methods that fail, those that cannot be served, those of clients that are away; how many are left out."""
    unavailable = {
        each.method: each
        for group, judged in zip(seen.groups, groups, strict=True)
        for each in _unavailable(group, judged, seen.at)
    }
    if seen.unstorable is not None:
        name, why = JOBS_CREATE.name, f"nothing can be stored: {seen.unstorable}"
        unavailable[name] = MethodHealth(name, None, "unavailable", seen.at, why)
    failing = sorted(_failing(seen, unavailable), key=lambda each: -each.failed_per_second)
    absent = [method for method, connected in seen.clients.items() if not connected and method not in unavailable]
    listed = [_away(key, seen.at) for key in absent[:MAX_METHODS]]
    return [*failing, *unavailable.values(), *listed], len(absent) - len(listed)


def _failing(seen: Seen, unavailable: Collection[str]) -> Iterator[MethodHealth]:
    group_of = {info.name: group.name for group in seen.groups for info in group.methods}
    for rate in seen.failing:
        method = rate.method
        is_served = method in group_of or method in seen.clients or method in METHODS or method == OTHER_METHODS
        if is_served and method not in unavailable:
            yield _method_that_fails(rate, group_of.get(method), seen.at)


def _unavailable(seen: GroupSeen, judged: GroupHealth, at: int) -> Iterator[MethodHealth]:
    for failure in seen.failed:
        for method in failure.methods:
            yield MethodHealth(method, seen.name, "unavailable", at, failure.words)
    held = {each.lane: each.text for each in seen.held if each.executor is None}
    for info in seen.methods:
        if (why := _why_not(info, judged, held)) is not None:
            yield MethodHealth(info.name, seen.name, "unavailable", at, why)


def _why_not(info: MethodInfo, judged: GroupHealth, held: Mapping[Lane, str]) -> str | None:
    if not judged.serving:
        return f"no executor of the group {judged.name} answers"
    return held.get(info.lane)


def _away(key: str, at: int) -> MethodHealth:
    tenant, method = tenant_and_name(key)
    return MethodHealth(method, None, "unavailable", at, AWAY, tenant=tenant)


def _method_that_fails(rate: FailureRate, group: str | None, at: int) -> MethodHealth:
    reason = f"fails {100 * rate.share:.0f} %, {rate.per_second:.2g}/s"
    tenant, method = tenant_and_name(rate.method)
    figures = rate.calls, rate.failed, round(rate.per_second, 3), rate.last
    return MethodHealth(method, group, "failing", at, reason, *figures, tenant)


def _in_words(methods: list[MethodHealth]) -> Iterator[str]:
    """Failing methods, and those of the hub: of others the cause of their group says it."""
    said = [each for each in methods if each.status == "failing" or (each.group is None and not is_away(each))]
    for each in said[:MAX_FAILING_CAUSES]:
        yield describe(each)
    if (more := len(said) - MAX_FAILING_CAUSES) > 0:
        yield f"{more} more methods fail, or are not served"


def is_away(method: MethodHealth) -> bool:
    """Whether a method is not served because its clients are away: they come and go, which is no trouble of the hub."""
    return method.reason == AWAY


def describe(method: MethodHealth) -> str:
    """What is the matter with a method, in words: ``debug.fail fails 100 %, 2.5/s: INTERNAL_ERROR: ...``."""
    name = method.method if method.tenant == DEFAULT_TENANT else f"{method.method} of tenant {method.tenant}"
    if method.status == "unavailable":
        return f"{name} is not served: {method.reason}"
    return f"{name} {method.reason}{_error(method.last_error)}"


def _error(last: LastError | None) -> str:
    if last is None:
        return ""
    return f": {last.type}" if last.message is None else f": {last.type}: {last.message}"


def without_messages(judged: Serving) -> Serving:
    """The judgement for those who may not see what errors say: of methods' errors only their types stay."""
    methods = [
        each
        if each.last_error is None
        else msgspec.structs.replace(each, last_error=msgspec.structs.replace(each.last_error, message=None))
        for each in judged.methods
    ]
    kept = len(judged.causes) - len(list(_in_words(judged.methods)))
    return msgspec.structs.replace(judged, methods=methods, causes=[*judged.causes[:kept], *_in_words(methods)])
