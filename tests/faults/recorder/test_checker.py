"""Each rule of the recorder's checker is broken by hand, and says so; a sound history breaks none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_args

import pytest

from tests.faults.recorder import checker
from tests.faults.recorder.history import Line
from tests.faults.recorder.operations import Rule
from tests.faults.recorder.samples import Sample, chunks_of

Spoil = Callable[[Sample], None]


def sound() -> Sample:
    """Something of everything, as it should be."""
    sample = Sample()
    sample.subscribe("a:s")
    sample.subscribe("a:p", "t.*", epoch=None, offset=None)
    sample.call("a:1")
    sample.call("a:2", "info")
    sample.call("a:3", "fail", executed=0)
    sample.call("a:4", "info", executed=0)
    sample.call("a:5", key="k1")
    sample.call("a:6", key="k1", executed=0)
    sample.call("a:7", "fail", key="k1", executed=0)
    sample.stream("a:8", chunks_of("a:8", 0, 1, 2), 3)
    sample.stream("a:9", chunks_of("a:9", 0, 1), 3, "info", sent_chunks=2)
    for offset in (1, 2):
        sample.publish(f"b:{offset}", offset)
        sample.event("a:s", offset, f"b:{offset}")
        sample.event("a:p", offset, f"b:{offset}")
    sample.publish("b:3", 3)
    sample.publish("b:4", 4)
    sample.gap("a:s", 3, 3, "slow_consumer")
    sample.event("a:s", 4, "b:4")
    sample.gap("a:p", 0, 0, "disconnected", epoch="", topic="t.*")
    sample.event("a:p", 4, "b:4")
    sample.publish("b:5", 5)
    sample.invoke("n:1", "fault", method="hub_kill")
    sample.line("n:1", "ok")
    sample.line("", "state", process="a", value="connected", resumed=False)
    sample.publish("b:6", 1, "e2")
    sample.publish("b:7", 2, "e2")
    sample.gap("a:s", 1, 1, "epoch", epoch="e2")
    sample.event("a:s", 2, "b:7", "e2")
    sample.gap("a:p", 0, 0, "disconnected", epoch="", topic="t.*")
    sample.event("a:p", 2, "b:7", "e2")
    sample.line("a:s", "ok")
    sample.line("a:p", "ok")
    return sample


def test_a_sound_history_breaks_no_rule() -> None:
    assert checker.described(checker.check(sound().record)) == ""


def test_what_is_declared_idempotent_may_run_again_elsewhere() -> None:
    sample = Sample()
    sample.invoke("a:1", "call", method="recorded.echo.again", expect=7, rerun=("hub",))
    for by in ("100", "101", "102"):
        sample.executed("a:1", by=by)
    sample.line("a:1", "ok", value=7)
    sample.invoke("a:2", "call", method="recorded.echo.again", expect=7, rerun=("client",))
    for life in (1, 1, 2):
        sample.executed("a:2", life=life)
    sample.line("a:2", "ok", value=7)
    assert checker.check(sample.record) == []


def test_a_key_may_run_once_in_each_life_if_it_was_asked_for_again() -> None:
    sample = Sample()
    sample.call("a:1", "info", key="k", executed=0)
    sample.call("a:2", key="k", executed=0)
    sample.executed("k", life=1)
    sample.executed("k", life=2)
    assert checker.check(sample.record) == []


def test_what_is_declared_idempotent_runs_under_its_key_at_the_next_hub() -> None:
    sample = Sample()
    rerun_by_hub(sample, (1, "100"), (2, "101"), key="k")
    assert checker.check(sample.record) == []


def test_a_gap_of_a_pattern_is_one_of_the_topics_that_were_not_heard_of_yet() -> None:
    sample = Sample()
    sample.subscribe("b:1", "t.*", epoch=None, offset=None)
    sample.publish("a:1", 1, "e1")
    sample.gap("b:1", 0, 0, "epoch", epoch="", topic="t.*")
    sample.publish("a:2", 1, "e2")
    sample.event("b:1", 1, "a:2", epoch="e2")
    sample.line("b:1", "ok")
    assert checker.check(sample.record) == []


def test_a_new_epoch_may_be_the_first_that_is_heard_of_a_topic() -> None:
    sample = Sample()
    sample.subscribe("b:1", "t.*", epoch=None, offset=None)
    sample.publish("a:1", 1, "e1")
    sample.gap("b:1", 1, 0, "epoch", epoch="e2")
    sample.line("b:1", "ok")
    assert checker.check(sample.record) == []


def test_what_is_published_again_under_its_key_came_before_later_subscriptions() -> None:
    sample = Sample()
    sample.publish("a:1", 1, key="k")
    sample.subscribe("b:1", "t.*", epoch=None, offset=None)
    sample.publish("a:2", 1, key="k")
    sample.publish("a:3", 2)
    sample.event("b:1", 2, "a:3")
    sample.line("b:1", "ok")
    assert checker.check(sample.record) == []


def test_short_sessions_may_expire_while_the_hub_lives() -> None:
    sample = Sample()
    sample.invoke("n:1", "fault", method="short_sessions")
    sample.line("n:1", "ok")
    sample.call("a:1", "info", code="disconnected")
    sample.line("", "state", process="a", value="connected", resumed=False)
    assert checker.check(sample.record) == []
    sample.line("", "state", process="a", value="reconnecting", code=1002)
    assert [violation.rule for violation in checker.check(sample.record)] == ["sessions-hold"]


def again(sample: Sample, work: str, *, life: int = 1, by: str = "100") -> None:
    sample.executed(work, life=life, by=by)


def rerun_by_hub(sample: Sample, *executions: tuple[int, str], key: str | None = None) -> None:
    sample.invoke("c:1", "call", method="recorded.echo.again", expect=7, rerun=("hub",), key=key)
    for life, by in executions:
        sample.executed(key or "c:1", life=life, by=by)
    sample.line("c:1", "ok", value=7)


def subscribed(sample: Sample, *lines: Spoil, end: str = "ok") -> None:
    """One more subscription."""
    sample.subscribe("d:1", offset=None, epoch=None)
    for line in lines:
        line(sample)
    sample.line("d:1", end)  # type: ignore[arg-type]


def given_up_early(sample: Sample) -> None:
    """Before the hub was killed."""
    sample.call("c:1", "info", code="disconnected")
    sample.lines[:0] = [Line(**members_of(line) | {"time": 0}) for line in sample.lines[-2:]]
    del sample.lines[-2:]


def members_of(line: Line) -> dict[str, Any]:
    return {name: getattr(line, name) for name in line.__struct_fields__}


def both(first: Spoil, second: Spoil) -> Spoil:
    def spoil(sample: Sample) -> None:
        first(sample)
        second(sample)

    return spoil


def replaced(sample: Sample, op: str, kind: str, **members: object) -> None:
    """Say something else in a line."""
    place = next(number for number, line in enumerate(sample.lines) if (line.op, line.kind) == (op, kind))
    sample.lines[place] = Line(**members_of(sample.lines[place]) | members)


SPOILED: dict[str, tuple[Rule, Spoil]] = {
    "an operation without an end": ("one-outcome", lambda s: s.invoke("c:1", "call", expect=1)),
    "an operation with two ends": ("one-outcome", lambda s: s.line("a:1", "ok", value=7)),
    "two different ends": ("one-outcome", lambda s: s.line("a:1", "info", code=2001, maybe_executed=True)),
    "an end without a beginning": ("one-outcome", lambda s: s.line("c:1", "ok", value=7)),
    "a beginning twice": ("one-outcome", lambda s: s.invoke("a:1", "call", expect=7)),
    "an error that no fault explains": (
        "explained",
        lambda s: s.call("c:1", "info", code=1003, maybe_executed=True),
    ),
    "a method that is always there, not found": ("explained", lambda s: s.call("c:1", "fail", executed=0, code=-32601)),
    "an exception of the client's own": (
        "explained",
        lambda s: s.call("c:1", "info", code="KeyError", maybe_executed=True),
    ),
    "an executed failure that says otherwise": (
        "explained",
        lambda s: s.call("c:1", "info", executed=0, maybe_executed=False),
    ),
    "executed twice": ("at-most-once", lambda s: again(s, "a:2")),
    "executed twice, elsewhere": ("at-most-once", lambda s: again(s, "a:2", by="101")),
    "executed by two hubs": ("at-most-once", lambda s: again(s, "a:2", life=2, by="101")),
    "run again by another hub": ("at-most-once", lambda s: rerun_by_hub(s, (1, "100"), (2, "101"))),
    "run again where it ran": ("at-most-once", lambda s: rerun_by_hub(s, (1, "100"), (1, "100"))),
    "run again too often": ("at-most-once", lambda s: rerun_by_hub(s, *((1, str(by)) for by in range(4)))),
    "a key executed twice": ("keyed-once", lambda s: again(s, "k1", by="101")),
    "an idempotent key executed twice by one process": (
        "keyed-once",
        lambda s: rerun_by_hub(s, (1, "100"), (1, "100"), key="k2"),
    ),
    "a key executed by a hub that nobody asked": (
        "keyed-once",
        both(lambda s: s.call("c:1", key="k2"), lambda s: again(s, "k2", life=2)),
    ),
    "success without execution": ("ok-executed", lambda s: s.call("c:1", executed=0)),
    "success under a key without execution": ("ok-executed", lambda s: s.call("c:1", key="k2", executed=0)),
    "surely not executed, but executed": ("fail-not-executed", lambda s: again(s, "a:3")),
    "a key surely not executed, but executed": ("fail-not-executed", lambda s: s.call("c:1", "fail", key="k2")),
    "work that nobody asked for": ("executed-for-somebody", lambda s: again(s, "z:9")),
    "another call's result": ("right-result", lambda s: replaced(s, "a:1", "ok", value=8)),
    "another call's result under a key": ("right-result", lambda s: replaced(s, "a:6", "ok", value=8)),
    "a chunk is missing": ("stream-whole", lambda s: s.stream("c:1", chunks_of("c:1", 0, 2), 3)),
    "the last chunk is missing": ("stream-whole", lambda s: s.stream("c:1", chunks_of("c:1", 0, 1), 3)),
    "a chunk twice": ("stream-whole", lambda s: s.stream("c:1", chunks_of("c:1", 0, 1, 1, 2), 3)),
    "chunks out of order": ("stream-whole", lambda s: s.stream("c:1", chunks_of("c:1", 0, 2, 1), 3)),
    "a hole before the error": (
        "stream-whole",
        lambda s: s.stream("c:1", chunks_of("c:1", 0, 2), 3, "info", sent_chunks=3),
    ),
    "fewer chunks than the error says": (
        "stream-whole",
        lambda s: s.stream("c:1", chunks_of("c:1", 0), 3, "info", sent_chunks=2),
    ),
    "a chunk of another stream": (
        "stream-whole",
        lambda s: s.stream("c:1", [*chunks_of("c:1", 0), *chunks_of("c:2", 1)], 2),
    ),
    "a summary of another stream": (
        "stream-whole",
        lambda s: s.stream("c:1", chunks_of("c:1", 0), 1, value={"work": "c:2", "chunks": 1}),
    ),
    "chunks of what surely was not executed": (
        "stream-whole",
        lambda s: s.stream("c:1", chunks_of("c:1", 0), 1, "fail"),
    ),
    "a session lost though the hub lived": (
        "sessions-hold",
        lambda s: s.line("", "state", process="a", value="connected", resumed=False),
    ),
    "given up though the hub lived": (
        "sessions-hold",
        given_up_early,
    ),
    "rules of sessions broken": (
        "sessions-hold",
        lambda s: s.line("", "state", process="b", value="reconnecting", code=1002),
    ),
    "an event is skipped": (
        "event-order",
        lambda s: subscribed(s, lambda s: s.event("d:1", 1, "b:1"), lambda s: s.event("d:1", 4, "b:4")),
    ),
    "the first event is skipped": (
        "event-order",
        both(lambda s: s.subscribe("d:1"), both(lambda s: s.event("d:1", 2, "b:2"), lambda s: s.line("d:1", "ok"))),
    ),
    "a new epoch, unannounced": (
        "event-order",
        lambda s: subscribed(s, lambda s: s.event("d:1", 4, "b:4"), lambda s: s.event("d:1", 1, "b:6", "e2")),
    ),
    "a hole that the hub did not announce": (
        "event-order",
        lambda s: subscribed(s, lambda s: s.event("d:1", 1, "b:1"), lambda s: s.gap("d:1", 2, 3, "missing")),
    ),
    "a gap that leaves a hole": (
        "event-order",
        lambda s: subscribed(s, lambda s: s.event("d:1", 1, "b:1"), lambda s: s.gap("d:1", 3, 3, "history")),
    ),
    "an event twice": (
        "event-once",
        lambda s: subscribed(s, lambda s: s.event("d:1", 1, "b:1"), lambda s: s.event("d:1", 1, "b:1")),
    ),
    "an event that goes back": (
        "event-once",
        lambda s: subscribed(s, lambda s: s.event("d:1", 2, "b:2"), lambda s: s.event("d:1", 1, "b:1")),
    ),
    "a gap over what had come": (
        "event-once",
        lambda s: subscribed(s, lambda s: s.event("d:1", 2, "b:2"), lambda s: s.gap("d:1", 1, 3, "history")),
    ),
    "an acknowledged event never comes": (
        "event-delivered",
        lambda s: subscribed(s, lambda s: s.event("d:1", 2, "b:7", "e2"), lambda s: s.publish("c:1", 3, "e2")),
    ),
    "an acknowledged event of an epoch nobody told of": (
        "event-delivered",
        lambda s: subscribed(s, lambda s: s.event("d:1", 2, "b:7", "e2"), lambda s: s.publish("c:1", 1, "e3")),
    ),
    "a subscription that hears nothing": (
        "event-delivered",
        lambda s: subscribed(s, lambda s: s.publish("c:1", 3, "e2")),
    ),
    "an event with other data": (
        "event-data",
        lambda s: subscribed(s, lambda s: s.event("d:1", 1, "b:2")),
    ),
    "an event that nobody published": (
        "event-data",
        lambda s: subscribed(s, lambda s: s.event("d:1", 3, "z:9", "e2")),
    ),
    "two publications at one place": ("event-data", lambda s: s.publish("c:1", 2, "e2")),
    "published twice": ("publish-once", lambda s: subscribed(s, lambda s: s.event("d:1", 6, "b:5"))),
    "published by two hubs": ("publish-once", lambda s: subscribed(s, lambda s: s.event("d:1", 3, "b:5", "e2"))),
    "a key published twice": (
        "publish-once",
        both(lambda s: s.publish("c:1", 3, "e2", key="k3"), lambda s: s.publish("c:2", 4, "e2", key="k3")),
    ),
    "surely not published, but there": (
        "publish-once",
        both(
            lambda s: s.publish("c:1", 3, end="fail"),
            lambda s: subscribed(s, lambda s: s.event("d:1", 6, "c:1")),
        ),
    ),
    "a later publication before an earlier one": ("publish-order", lambda s: replaced(s, "b:2", "ok", offset=0)),
}


@pytest.mark.parametrize("name", SPOILED)
def test_what_is_wrong_is_found(name: str) -> None:
    rule, spoil = SPOILED[name]
    sample = sound()
    spoil(sample)
    found = checker.check(sample.record)
    assert rule in {violation.rule for violation in found}, checker.described(found)


def test_every_rule_has_been_broken() -> None:
    assert {rule for rule, _ in SPOILED.values()} == set(get_args(Rule))


def test_a_violation_names_operations_and_shows_lines() -> None:
    sample = sound()
    again(sample, "a:2", by="101")
    (violation,) = checker.check(sample.record)
    assert (violation.rule, violation.ops) == ("at-most-once", ("a:2",))
    text = checker.described([violation])
    assert '"op":"a:2","kind":"invoke"' in text
    assert text.count('"work":"a:2","life":1') == 2
