"""What a history has to obey where calls, streams and inputs are concerned. Each rule finds what breaks it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from tests.faults.recorder.history import Execution, Line
from tests.faults.recorder.operations import Operation, Record, Rule, Violation, grouped
from trunkline_protocol.errors import ErrorCode

MAX_ATTEMPTS: Final = 3
"""How often a hub runs what is declared idempotent (SPEC.md, Executors)."""

CANCELLED: Final = "cancelled"
DISCONNECTED: Final = "disconnected"
"""Codes of errors that are the client's own."""

EXPLAINED: Final = {
    ErrorCode.CANCELLED: "cancelled",
    ErrorCode.WORKER_UNAVAILABLE: "the hub, or its executors, were starting or stopping",
    ErrorCode.COMMUNICATION_TIMEOUT: "a deadline passed",
    ErrorCode.WORKER_CRASHED: "an executor was killed",
    ErrorCode.WORKER_OVERLOADED: "too much waited",
    ErrorCode.RESOURCE_EXHAUSTED: "an executor was killed for its memory",
    CANCELLED: "the caller did",
    DISCONNECTED: "the session was lost",
}
"""What may befall an operation while things break, and why. Anything else is a fault of Trunkline."""

SERVED_BY_CLIENTS: Final = "served."
"""Begin of the names of methods that clients serve: unknown (-32601) while their callee is not registered again."""

MISDEEDS_OF: Final = "misdeeds."
"""Begin of the names of methods that raise what is no error of Trunkline (-32603), and worse."""

NEWS_SECONDS: Final = 1.0
"""A client may tell of its new session a little before it ends what the old one had."""

WORK: Final = ("call", "stream", "input")


def one_outcome(record: Record) -> Iterator[Violation]:
    """Every operation has one beginning and one end."""
    for each in record.operations.values():
        if not each.is_sound:
            words = f"{len(each.invokes)} beginnings and {len(each.ends)} ends"
            yield Violation("one-outcome", (each.op,), words, each.lines)


def explained(record: Record) -> Iterator[Violation]:
    """Operations fail for reasons that faults give them, with an error that fits its kind."""
    for each in record.sound(*WORK, "publish", "subscribe"):
        end = each.end
        if end.kind == "ok":
            continue
        method = each.invoke.method or ""
        is_unserved = end.code == ErrorCode.METHOD_NOT_FOUND and method.startswith(SERVED_BY_CLIENTS)
        is_raised = end.code == ErrorCode.INTERNAL_ERROR and method.startswith(MISDEEDS_OF)
        if end.code not in EXPLAINED and not is_unserved and not is_raised:
            yield Violation("explained", (each.op,), f"no fault explains {end.code}: {end.message}", each.lines)
        elif (end.kind == "info") != bool(end.maybe_executed):
            yield Violation("explained", (each.op,), f"{end.kind} with maybe_executed {end.maybe_executed}", each.lines)


def at_most_once(record: Record) -> Iterator[Violation]:
    """Without a key: once ever, unless it was said that it may run again."""
    for work, operations in record.by_work(*WORK).items():
        first = operations[0]
        executions = record.executions.get(work, [])
        if first.invoke.key is None and (words := _too_often(first, executions)) is not None:
            yield _violation("at-most-once", [first], executions, words)


def _too_often(operation: Operation, executions: list[Execution]) -> str | None:
    rerun = operation.invoke.rerun
    if len(executions) < 2 or "client" in rerun:
        return None
    if "hub" not in rerun:
        return f"executed {len(executions)} times, and nobody may run it again"
    lives = {execution.life for execution in executions}
    if len(lives) > 1:
        return f"executed by several hubs ({sorted(lives)}): only a client can have sent it again, and it may not"
    return _not_reruns(executions)


def _not_reruns(executions: list[Execution]) -> str | None:
    """A hub runs again what a dead executor left, so each time another process."""
    if len(executions) > MAX_ATTEMPTS:
        return f"executed {len(executions)} times; {MAX_ATTEMPTS} are allowed"
    if len({execution.by for execution in executions}) < len(executions):
        return "executed twice by one process: it was not run again because that had died"
    return None


def keyed_once(record: Record) -> Iterator[Violation]:
    """Under one key: once in a hub's life, and no hub runs what nobody asked it for.

    What is declared idempotent runs again where a client asks the next hub, though that does not know the key.
    """
    for work, operations in record.by_work(*WORK).items():
        if operations[0].invoke.key is None:
            continue
        executions = record.executions.get(work, [])
        rerun = operations[0].invoke.rerun
        lives = grouped((execution.life, execution) for execution in executions)
        for life, own in lives.items():
            if "hub" not in rerun and len(own) > 1:
                yield _violation("keyed-once", operations, own, f"executed {len(own)} times in life {life} of the hub")
            elif (words := _not_reruns(own)) is not None:
                yield _violation("keyed-once", operations, own, words)
        if len(lives) > len(operations) and not rerun:
            words = f"executed by {len(lives)} hubs, but asked for {len(operations)} times"
            yield _violation("keyed-once", operations, executions, words)


def ok_executed(record: Record) -> Iterator[Violation]:
    """What succeeded was executed."""
    for work, operations in record.by_work(*WORK).items():
        done = [each for each in operations if each.end.kind == "ok"]
        if done and not record.executions.get(work):
            yield _violation("ok-executed", done, [], "succeeded, but nobody executed it")


def fail_not_executed(record: Record) -> Iterator[Violation]:
    """What surely was not executed, was not. Under a key, one of the others may have been."""
    for work, operations in record.by_work(*WORK).items():
        executions = record.executions.get(work, [])
        if executions and all(each.end.kind == "fail" for each in operations):
            yield _violation("fail-not-executed", operations, executions, "said not to be executed, but it was")


def executed_for_somebody(record: Record) -> Iterator[Violation]:
    """Nothing is executed that nobody asked for."""
    asked = {each.invokes[0].work for each in record.operations.values() if each.invokes}
    for work, executions in record.executions.items():
        if work not in asked:
            yield _violation("executed-for-somebody", [], executions, f"{work} was executed, but nobody asked for it")


def right_result(record: Record) -> Iterator[Violation]:
    """Results belong to their call: echoes, and the sums of inputs."""
    for each in record.sound("call", "input"):
        if each.end.kind == "ok" and each.end.value != each.invoke.expect:
            words = f"gave {each.end.value!r} where {each.invoke.expect!r} is right"
            yield Violation("right-result", (each.op,), words, each.lines)


def stream_whole(record: Record) -> Iterator[Violation]:
    """Chunks in order, without gaps, with their own data; all of them where the stream succeeded."""
    for each in record.sound("stream"):
        if (words := _fault_of_stream(each.invoke, each.end)) is not None:
            yield Violation("stream-whole", (each.op,), words, each.lines)


def _fault_of_stream(invoke: Line, end: Line) -> str | None:
    chunks = end.chunks or []
    for place, (index, data) in enumerate(chunks):
        if index != place:
            return f"chunk {index} where {place} had to come"
        if data != {"work": invoke.work, "index": index}:
            return f"chunk {index} carries {data!r}"
    if end.kind == "ok" and len(chunks) != invoke.expect:
        return f"succeeded with {len(chunks)} chunks of {invoke.expect}"
    if end.kind == "ok" and not _is_summary(invoke, end.value):
        return f"its summary is {end.value!r}"
    if end.kind == "fail" and chunks:
        return f"said not to be executed, after {len(chunks)} chunks"
    if end.sent_chunks is not None and end.sent_chunks != len(chunks):
        return f"its error says that {end.sent_chunks} chunks went out, but {len(chunks)} came"
    return None


def _is_summary(invoke: Line, value: Any) -> bool:
    """Where a method gives no summary of its own, the number of its chunks is all there is in it."""
    return isinstance(value, dict) and value.get("chunks") == invoke.expect and value.get("work") in (None, invoke.work)


def sessions_hold(record: Record) -> Iterator[Violation]:
    """Sessions end with their hub, and with nothing else: no session more than that, and no operation at another time
    (unless they are so short that they may expire). Nobody breaks their rules (close 1002).
    """
    for line in record.states:
        if line.code == 1002:
            yield Violation("sessions-hold", (), f"close 1002 at {line.process}: {line.message}", (line,))
    if not record.sessions_expire:
        yield from _lost_too_often(record)


def _lost_too_often(record: Record) -> Iterator[Violation]:
    lost = grouped((line.process, line) for line in record.states if line.resumed is False)
    for process, lines in lost.items():
        if len(lines) > len(record.hub_end_times):
            words = (
                f"{process} lost its session {len(lines)} times, but the hub ended {len(record.hub_end_times)} times"
            )
            yield Violation("sessions-hold", (), words, tuple(lines))
    for each in record.sound(*WORK, "publish"):
        if each.end.code == DISCONNECTED and not _has_lost_its_session(record, each.end):
            words = f"{each.end.process} gave it up, but the hub had not ended: {each.end.message}"
            yield Violation("sessions-hold", (each.op,), words, each.lines)


def _has_lost_its_session(record: Record, end: Line) -> bool:
    """Whether it ended between an end of the hub and the moment when its client has a new session."""
    for began in record.hub_end_times:
        news = (line.time for line in record.states if line.process == end.process and line.resumed is False)
        if began <= end.time <= min((time for time in news if time > began), default=end.time) + NEWS_SECONDS:
            return True
    return False


def _violation(rule: Rule, operations: list[Operation], executions: list[Execution], words: str) -> Violation:
    lines = tuple(line for each in operations for line in each.lines)
    return Violation(rule, tuple(each.op for each in operations), words, (*lines, *executions))
