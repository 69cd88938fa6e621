"""Histories by hand: a sound one, to be spoiled in one place."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

from tests.faults.recorder.history import Execution, Kind, Line, What
from tests.faults.recorder.operations import Record


class Sample:
    """Lines and executions, each a moment after the one before."""

    def __init__(self) -> None:
        self.lines: list[Line] = []
        self.ledger: list[Execution] = []
        self._clock: Iterator[int] = itertools.count(1)

    def invoke(self, op: str, what: What, **members: Any) -> None:
        if what in ("call", "stream", "input", "publish"):
            members.setdefault("work", members.get("key") or op)
        self.line(op, "invoke", what=what, **members)

    def line(self, op: str, kind: Kind, **members: Any) -> None:
        process = members.pop("process", op.partition(":")[0] or "a")
        self.lines.append(Line(time=next(self._clock), process=process, op=op, kind=kind, **members))

    def executed(self, work: str, *, life: int = 1, by: str = "100") -> None:
        self.ledger.append(Execution(next(self._clock), work, life, by))

    def call(self, op: str, end: Kind = "ok", *, executed: int = 1, **members: Any) -> None:
        """A call with its outcome."""
        outcome = outcome_of(end, members, {"value": 7})
        self.invoke(op, "call", method="recorded.echo", expect=7, **members)
        for _ in range(executed):
            self.executed(members.get("key") or op)
        self.line(op, end, **outcome)

    def stream(self, op: str, chunks: list[tuple[int, Any]], n: int, end: Kind = "ok", **members: Any) -> None:
        outcome = outcome_of(end, members, {"value": {"work": op, "chunks": n}}) | {"chunks": chunks}
        self.invoke(op, "stream", method="recorded.count", expect=n)
        self.executed(op)
        self.line(op, end, **outcome)

    def publish(self, op: str, offset: int, epoch: str = "e1", *, end: Kind = "ok", **members: Any) -> None:
        outcome = outcome_of(end, members, {"epoch": epoch, "offset": offset})
        self.invoke(op, "publish", topic="t.a", **members)
        self.line(op, end, **outcome)

    def subscribe(self, op: str, topic: str = "t.a", *, epoch: str | None = "e1", offset: int | None = 0) -> None:
        self.invoke(op, "subscribe", topic=topic)
        self.line(op, "begun", epoch=epoch, offset=offset)

    def event(self, op: str, offset: int, value: str, epoch: str = "e1", topic: str = "t.a") -> None:
        self.line(op, "event", topic=topic, epoch=epoch, offset=offset, value=value)

    def gap(self, op: str, first: int, last: int, reason: str, epoch: str = "e1", topic: str = "t.a") -> None:
        self.line(op, "gap", topic=topic, epoch=epoch, offset=first, until=last, reason=reason)

    @property
    def record(self) -> Record:
        return Record(list(self.lines), list(self.ledger))


def outcome_of(end: Kind, members: dict[str, Any], ok: dict[str, Any]) -> dict[str, Any]:
    """What an end says, taken out of the members where it is given there."""
    outcome = ok if end == "ok" else {"code": 2001 if end == "info" else 1001, "maybe_executed": end == "info"}
    ends = ("value", "epoch", "offset", "code", "maybe_executed", "sent_chunks")
    return outcome | {name: members.pop(name) for name in ends if name in members}


def chunks_of(op: str, *indexes: int) -> list[tuple[int, Any]]:
    """Chunks with their data."""
    return [(index, {"work": op, "index": index}) for index in indexes]
