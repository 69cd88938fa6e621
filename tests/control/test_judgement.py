"""What a hub is judged to serve, from what is seen of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

import pytest

from tests.support.health import executor_report
from trunkline.control.failing import FailureRate
from trunkline.control.judgement import AWAY, MAX_METHODS, NEVER, Seen, changed, judge, without_messages
from trunkline.executors.supervisor import BACKOFF_LIMIT
from trunkline_protocol.catalogue import Lane, MethodInfo, ModuleFailure
from trunkline_protocol.health_reports import GroupSeen, Held, LastError, Serving, Status

METHODS = [MethodInfo("lab.slow", lane="thread"), MethodInfo("lab.quick", lane="loop")]
BROKEN = FailureRate("lab.quick", 40, 40, 1.0, 2.5, LastError("INTERNAL_ERROR", -32603, "the file is corrupt", 5))


def group(*executors: tuple[str, int], name: str = "default", **seen: Any) -> GroupSeen:
    reports = [
        executor_report(index, group=name, status=status, restarts=restarts, last_failure="it broke")
        for index, (status, restarts) in enumerate(executors)
    ]
    return GroupSeen(name, reports, **{"methods": METHODS, "held": [], "failed": []} | seen)


def look(
    *groups: GroupSeen,
    before: Serving = NEVER,
    draining: bool = False,
    failing: Iterable[FailureRate] = (),
    clients: Mapping[str, bool] = MappingProxyType({}),
    unstorable: str | None = None,
    at: int = 1000,
) -> Serving:
    return judge(Seen(draining, groups, failing, clients, unstorable, at), before)


def test_what_runs_out_is_a_cause_and_nothing_is_unserved() -> None:
    words = "the disk of /data has 1.5 GiB free of 40 GiB: make room before writes fail"
    judged = judge(Seen(False, [group(("ready", 0))], [BROKEN], {}, None, 1000, low=[words]), NEVER)
    assert (judged.status, judged.ready, judged.causes[0]) == ("degraded", True, words)
    assert without_messages(judged).causes[0] == words
    (only,) = judged.methods
    assert only.method == "lab.quick"
    assert not changed(
        judge(Seen(False, [group(("ready", 0))], [BROKEN], {}, None, 1000, low=["1.4 GiB"]), judged), judged
    )


def held(lane: Lane, executor: str | None = None) -> Held:
    return Held(lane, executor, f"{lane} calls wait")


@pytest.mark.parametrize(
    ("executors", "status", "ready"),
    [
        ([("ready", 0), ("busy", 3)], "healthy", True),
        ([("ready", 0), ("down", 1)], "degraded", True),
        ([("busy", 0), ("starting", 1)], "degraded", True),
        ([("busy", 0), ("stopping", 0)], "degraded", True),
        ([("starting", 0), ("starting", 0)], "starting", False),
        ([("starting", 0), ("starting", 4)], "unhealthy", False),
        ([("silent", 0), ("silent", 0)], "unhealthy", False),
        ([("down", 1), ("down", 1)], "unhealthy", False),
    ],
)
def test_status_is_what_can_be_served(executors: list[tuple[str, int]], status: Status, ready: bool) -> None:
    judged = look(group(*executors))
    assert (judged.status, judged.ready) == (status, ready)
    assert bool(judged.causes) == (status != "healthy")
    (of_group,) = judged.groups
    assert (of_group.status, of_group.ready, of_group.executors) == (status, ready, 2)
    names = {each.method for each in judged.methods if each.status == "unavailable"}
    assert names == (set() if ready else {"lab.slow", "lab.quick"})


def test_a_hub_without_executors_serves_what_clients_do() -> None:
    judged = look()
    assert (judged.status, judged.ready, judged.groups, judged.causes) == ("healthy", True, [], [])


def test_a_stopping_hub_says_so() -> None:
    judged = look(group(("ready", 0)), draining=True)
    assert (judged.status, judged.ready, judged.causes) == ("stopping", False, ["the hub is stopping"])


def test_every_group_has_to_serve_something() -> None:
    judged = look(group(("ready", 0)), group(("down", 1), name="gpu", methods=[MethodInfo("gpu.run")]))
    assert (judged.status, judged.ready) == ("degraded", True), "a probe must not take the other group away"
    assert [(each.name, each.status) for each in judged.groups] == [("default", "healthy"), ("gpu", "unhealthy")]
    (gone,) = judged.methods
    assert (gone.method, gone.group, gone.reason) == ("gpu.run", "gpu", "no executor of the group gpu answers")


def test_of_a_lane_that_is_held_the_methods_are_named() -> None:
    judged = look(group(("busy", 0), held=[held("thread")]))
    assert (judged.status, judged.ready, judged.causes) == ("degraded", True, ["thread calls wait"])
    assert [(each.method, each.reason) for each in judged.methods] == [("lab.slow", "thread calls wait")]


def test_where_all_lanes_with_methods_are_held_nothing_is_served() -> None:
    plain = [MethodInfo("lab.slow", lane="thread")]
    judged = look(group(("busy", 0), methods=plain, held=[held("thread")]))
    assert (judged.status, judged.ready) == ("unhealthy", False)


def test_calls_that_only_one_executor_may_run_are_a_cause_and_no_more() -> None:
    judged = look(group(("busy", 0), ("ready", 0), held=[held("thread", "executor-0")]))
    assert (judged.status, judged.ready, judged.methods) == ("degraded", True, [])


def test_a_module_that_is_not_loaded_takes_its_methods_along() -> None:
    failure = ModuleFailure("lab.vision", 4002, "torch is not installed", ["vision.see"])
    judged = look(group(("ready", 0), failed=[failure]))
    assert judged.status == "degraded"
    assert "lab.vision could not be loaded: torch is not installed" in judged.causes[0]
    assert [(each.method, each.status) for each in judged.methods] == [("vision.see", "unavailable")]
    assert judged.causes[0].endswith("; it is loaded again by trunkline reload")


@pytest.mark.parametrize("failed_before_it_could_tell", [False, True])
def test_executors_that_can_load_nothing_are_said_once_with_what_is_done(failed_before_it_could_tell: bool) -> None:
    why = "it exited with code 7" if failed_before_it_could_tell else "FileNotFoundError: weights.bin"
    failure = ModuleFailure("broke", 4002, why, ["broke.run"])
    seen = group(("down", 3), ("starting", 3), methods=[], failed=[failure])
    for report in seen.executors:
        report.last_failure = why if failed_before_it_could_tell else failure.words
    judged = look(seen)
    assert judged.causes == [
        f"module broke could not be loaded: {why}; executor-0 and executor-1 are started again,"
        f" after a pause of at most {BACKOFF_LIMIT:.0f} s"
    ]
    assert [(each.kind, each.subject) for each in judged.groups[0].causes] == [("not_loaded", "broke")]
    assert not judged.ready


def test_where_many_executors_cannot_load_a_module_some_are_named() -> None:
    failure = ModuleFailure("broke", 4002, "no weights")
    seen = group(*[("down", 1)] * 8, methods=[], failed=[failure])
    for report in seen.executors:
        report.last_failure = failure.words
    (cause,) = look(seen).causes
    assert "; executor-0, executor-1, executor-2 and 5 more are started again" in cause


def test_a_process_that_is_started_again_for_another_reason_loads_the_module_too() -> None:
    failure = ModuleFailure("lab.vision", 4002, "torch is not installed", ["vision.see"])
    causes = look(group(("down", 1), failed=[failure])).causes
    assert causes == [
        "executor-0 is down: it broke",
        "module lab.vision could not be loaded: torch is not installed; it is loaded again when an executor starts",
    ]


@pytest.mark.parametrize(
    ("calls", "words"), [(0, "its process does"), (1, "with 1 call does"), (2, "with 2 calls does")]
)
def test_a_silent_executor_is_said_with_its_calls(calls: int, words: str) -> None:
    seen = group(("silent", 0))
    seen.executors[0].active_requests = calls
    assert words in look(seen).causes[0]


def test_methods_that_fail_are_named_with_their_rate_and_their_error() -> None:
    judged = look(group(("ready", 0)), failing=[BROKEN])
    assert (judged.status, judged.ready) == ("degraded", True)
    assert judged.causes == ["lab.quick fails 100 %, 2.5/s: INTERNAL_ERROR: the file is corrupt"]
    (method,) = judged.methods
    assert (method.status, method.group, method.calls, method.failed) == ("failing", "default", 40, 40)


def test_methods_that_fail_are_listed_whatever_else_is_not_served() -> None:
    many = [MethodInfo(f"gpu.{number}") for number in range(MAX_METHODS)]
    judged = look(group(("ready", 0)), group(("down", 1), name="gpu", methods=many), failing=[BROKEN])
    assert judged.methods[0].method == BROKEN.method
    assert (len(judged.methods), judged.methods_more) == (MAX_METHODS, 1)


def test_who_may_not_see_messages_gets_the_kinds_of_errors() -> None:
    judged = look(group(("ready", 0), ("down", 1)), failing=[BROKEN])
    told = without_messages(judged)
    assert told.causes == ["executor-1 is down: it broke", "lab.quick fails 100 %, 2.5/s: INTERNAL_ERROR"]
    assert told.methods[0].last_error == LastError("INTERNAL_ERROR", -32603, None, 5)


def test_breakers_are_causes_too_and_hide_no_message_that_is_left_out() -> None:
    breaker = "the breaker of lab.quick is open"
    judged = judge(Seen(False, [group(("ready", 0))], [BROKEN], {}, None, 1000, {"lab.quick": breaker}), NEVER)
    assert judged.status == "degraded"
    assert without_messages(judged).causes == [
        breaker,
        "lab.quick fails 100 %, 2.5/s: INTERNAL_ERROR",
    ]
    assert changed(judged, look(group(("ready", 0)), failing=[BROKEN]))


def test_what_cannot_be_served_is_not_said_to_fail() -> None:
    judged = look(group(("down", 1)), failing=[BROKEN])
    assert {each.status for each in judged.methods} == {"unavailable"}


def test_methods_of_clients_that_are_away_are_not_served() -> None:
    judged = look(clients={"theirs.see": False, "theirs.hear": True})
    assert (judged.status, judged.ready, judged.causes) == ("healthy", True, []), "clients come and go"
    (away,) = judged.methods
    assert (away.method, away.status, away.reason) == ("theirs.see", "unavailable", AWAY)


def test_where_nothing_can_be_stored_jobs_are_not_served() -> None:
    judged = look(group(("ready", 0)), unstorable="the disk of /data has 3 MiB free: make room")
    assert (judged.status, judged.ready) == ("degraded", True)
    assert judged.causes == [
        "jobs.create is not served: nothing can be stored: the disk of /data has 3 MiB free: make room"
    ]


def test_what_nobody_serves_any_more_does_not_fail() -> None:
    gone = BROKEN._replace(method="theirs.see")
    assert look(clients={"theirs.see": True}, failing=[gone]).status == "degraded"
    assert look(failing=[gone]).status == "healthy"


def test_since_is_kept_for_as_long_as_it_is_so() -> None:
    one = look(group(("ready", 0), ("down", 1)), at=1000)
    two = look(group(("ready", 0), ("down", 1)), before=one, failing=[BROKEN], at=2000)
    three = look(group(("ready", 0), ("ready", 1)), before=two, failing=[BROKEN], at=3000)
    assert [each.since for each in (one, two, three)] == [1000, 1000, 1000], "degraded all the time"
    assert [each.groups[0].since for each in (one, two, three)] == [1000, 1000, 3000]
    assert two.groups[0].causes[0].since == 1000
    assert three.methods[0].since == 2000
    assert look(group(("ready", 0), ("ready", 1)), before=three, at=4000).since == 4000


def test_another_rate_or_age_is_no_change_and_another_cause_is() -> None:
    one = look(group(("ready", 0), ("down", 1)), failing=[BROKEN])
    other_rate = BROKEN._replace(failed=39, per_second=2.4)
    assert not changed(look(group(("ready", 0), ("down", 1)), before=one, failing=[other_rate], at=2000), one)
    assert changed(look(group(("down", 1), ("ready", 0)), before=one, failing=[BROKEN]), one)
    assert changed(look(group(("ready", 0), ("silent", 1)), before=one, failing=[BROKEN]), one)
    assert changed(look(group(("ready", 0), ("down", 1)), before=one), one)


def test_a_list_of_methods_is_bounded() -> None:
    many = [MethodInfo(f"lab.m{number}") for number in range(MAX_METHODS + 7)]
    judged = look(group(("down", 1), methods=many))
    assert (len(judged.methods), judged.methods_more) == (MAX_METHODS, 7)
    judged = look(group(("down", 1)), clients={f"theirs.m{number}": False for number in range(3 * MAX_METHODS)})
    assert [each.method for each in judged.methods[:2]] == ["lab.slow", "lab.quick"], "these matter more"
    assert (len(judged.methods), judged.methods_more) == (MAX_METHODS, 2 * MAX_METHODS + 2)
