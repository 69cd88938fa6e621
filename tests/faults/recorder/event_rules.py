"""What a history has to obey where events are concerned. Each rule finds what breaks it.

What a subscription was handed is walked through, topic by topic: up to where, in which epoch, has it heard of all?
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.faults.recorder.history import Line
from tests.faults.recorder.operations import Operation, Record, Rule, Violation, grouped
from trunkline_protocol.topics import covers

Place = tuple[str, str, int]
"""Topic, epoch, offset."""


@dataclass
class Walk:
    """One topic, as one subscription heard of it.

    Attributes:
        epoch: the present one; None before anything is known.
        offset: everything of the epoch up to here came, or was announced as missing.
        turns: when a new epoch was announced.
        passed: the epochs before.
        announced: first and last of what was announced as missing of the present epoch.
        got: offsets of the events that came, of the present epoch.
        is_loose: after the gap of a pattern, which says of no topic what is missing.
        missed: when such gaps came before anything was heard of the topic.
        faults: what was wrong, with the line that shows it.
    """

    epoch: str | None = None
    offset: int = 0
    turns: list[float] = field(default_factory=list)
    passed: set[str] = field(default_factory=set)
    announced: list[tuple[int, int]] = field(default_factory=list)
    got: set[int] = field(default_factory=set)
    is_loose: bool = False
    missed: list[float] = field(default_factory=list)
    faults: list[tuple[Rule, str, Line]] = field(default_factory=list)

    def begin(self, epoch: str, offset: int) -> None:
        self.epoch, self.offset = epoch, offset

    def event(self, line: Line) -> None:
        assert line.epoch is not None
        assert line.offset is not None
        if self.epoch is None:
            self.begin(line.epoch, line.offset - 1)
        elif line.epoch != self.epoch:
            if not self.is_loose:
                self._fault("event-order", f"epoch {line.epoch} after {self.epoch}, and no gap said so", line)
            self._turn(line.epoch, line.time)
        if line.offset <= self.offset:
            words = "came twice" if line.offset in self.got else f"came after {self.offset}"
            self._fault("event-once", f"event {line.offset} {words}", line)
        elif line.offset > self.offset + 1:
            if self.is_loose:
                self.announced.append((self.offset + 1, line.offset - 1))
            else:
                self._fault("event-order", f"event {line.offset} after {self.offset}, and no gap said so", line)
        self.got.add(line.offset)
        self.offset = max(self.offset, line.offset)
        self.is_loose = False

    def gap(self, line: Line) -> None:
        assert line.epoch is not None
        assert line.offset is not None
        assert line.until is not None
        if self.epoch is not None and line.epoch != self.epoch:
            self._turn(line.epoch, line.time)
        elif self.epoch is None and line.reason == "epoch":
            self.turns.append(line.time)
        elif line.reason == "missing" and not self.is_loose:
            self._fault("event-order", "the client found a hole that the hub had not announced", line)
        elif self.epoch is not None and line.offset <= self.offset:
            self._fault("event-once", f"a gap from {line.offset} after {self.offset}: that had come", line)
        if line.offset > self.offset + 1 and self.epoch is not None and not self.is_loose:
            self._fault("event-order", f"a gap from {line.offset} after {self.offset}", line)
        self.announced.append((self.offset + 1, line.until))
        self.epoch, self.offset = line.epoch, max(self.offset, line.until)
        self.is_loose = False

    def _turn(self, epoch: str, at: float) -> None:
        assert self.epoch is not None
        self.passed.add(self.epoch)
        self.turns.append(at)
        self.epoch, self.offset = epoch, 0
        self.got.clear()
        self.announced.clear()

    def _fault(self, rule: Rule, words: str, line: Line) -> None:
        self.faults.append((rule, words, line))

    def heard_of(self, epoch: str, offset: int, at: float) -> bool:
        """Whether an event that was stored at that time or later came, or was announced as missing."""
        if any(gap > at for gap in self.missed):
            return True
        if epoch == self.epoch:
            return offset in self.got or any(first <= offset <= last for first, last in self.announced) or self.is_loose
        return epoch in self.passed or any(turn > at for turn in self.turns) or self.is_loose


def walks_of(subscription: Operation) -> dict[str, Walk]:
    """What it heard, by topic."""
    walks: dict[str, Walk] = {}
    gaps: list[float] = []
    for line in subscription.seen:
        topic = line.topic or subscription.invoke.topic or ""
        if line.kind == "gap" and not line.epoch:
            gaps.append(line.time)
            for walk in walks.values():
                walk.is_loose = True
            continue
        walk = walks.setdefault(topic, Walk(missed=list(gaps)))
        if line.kind == "event":
            walk.event(line)
        elif line.kind == "gap":
            walk.gap(line)
        elif line.epoch is not None:
            walk.begin(line.epoch, line.offset or 0)
    return walks


def event_order_and_once(record: Record) -> Iterator[Violation]:
    """Offsets follow each other, or a gap says what is missing; nothing comes twice."""
    for each in record.sound("subscribe"):
        for topic, walk in walks_of(each).items():
            for rule, words, line in walk.faults:
                yield Violation(rule, (each.op,), f"{topic}: {words}", (each.invoke, line))


def event_delivered(record: Record) -> Iterator[Violation]:
    """What was acknowledged reaches everybody who had subscribed before, or they hear that it is missing."""
    stored = [each for each in record.sound("publish") if each.end.kind == "ok"]
    asked = {work: operations[0].invoke.time for work, operations in record.by_work("publish").items()}
    for subscription in record.sound("subscribe"):
        begun = next((line for line in subscription.seen if line.kind == "begun"), None)
        if begun is None or subscription.end.kind != "ok":
            continue
        walks = walks_of(subscription)
        for publish in stored:
            topic = publish.invoke.topic or ""
            since = asked[publish.invoke.work or ""]
            if since < begun.time or not covers(subscription.invoke.topic or "", topic):
                continue
            if not walks.get(topic, Walk()).heard_of(publish.end.epoch or "", publish.end.offset or 0, since):
                words = f"{topic} {publish.end.epoch}:{publish.end.offset} was acknowledged, but never came"
                lines = (*publish.lines, *(line for line in subscription.seen if line.topic == topic))
                yield Violation("event-delivered", (publish.op, subscription.op), words, lines)


def event_data(record: Record) -> Iterator[Violation]:
    """One place holds one event, for its publisher and for everybody who reads it; and somebody published it."""
    held: dict[Place, Line] = {}
    works = {each.invoke.work for each in record.operations.values() if each.invokes and each.invoke.what == "publish"}
    for place, line, work in _sightings(record):
        first = held.setdefault(place, line)
        first_work = _work_of(record, first)
        if first_work != work:
            words = f"{place} is {first_work} and {work}"
            yield Violation("event-data", (first.op, line.op), words, (first, line))
        elif work not in works:
            yield Violation(
                "event-data", (line.op,), f"{place} carries {line.value!r}, which nobody published", (line,)
            )


def publish_once(record: Record) -> Iterator[Violation]:
    """What was published stands at one place of an epoch: of one only, unless it was published again under a key. What
    surely was not published stands nowhere.
    """
    places = grouped((work, (place, line)) for place, line, work in _sightings(record) if work is not None)
    asked = record.by_work("publish")
    for work, sightings in places.items():
        found = dict(sightings)
        operations = asked.get(work, [])
        epochs = grouped((place[:2], place) for place in found)
        ops = tuple(each.op for each in operations)
        if any(len(own) > 1 for own in epochs.values()) or len(epochs) > max(1, len(operations)):
            yield Violation("publish-once", ops, f"{work} stands at {sorted(found)}", tuple(found.values()))
        if operations and all(each.end.kind == "fail" for each in operations):
            yield Violation("publish-once", ops, f"{work} surely was not published, but came", tuple(found.values()))


def publish_order(record: Record) -> Iterator[Violation]:
    """What is published after another publication was acknowledged stands behind it."""
    stored = [each for each in record.sound("publish") if each.end.kind == "ok" and each.invoke.key is None]
    for (topic, epoch), own in grouped(((each.invoke.topic, each.end.epoch), each) for each in stored).items():
        behind: Operation | None = None
        ended = sorted(own, key=lambda each: each.end.time)
        done = 0
        for each in sorted(own, key=lambda each: each.invoke.time):
            while ended[done].end.time < each.invoke.time:
                if behind is None or (ended[done].end.offset or 0) > (behind.end.offset or 0):
                    behind = ended[done]
                done += 1
            if behind is not None and (each.end.offset or 0) <= (behind.end.offset or 0):
                words = f"{topic} {epoch}: {each.end.offset} began after {behind.end.offset} was acknowledged"
                yield Violation("publish-order", (behind.op, each.op), words, (*behind.lines, *each.lines))


def _sightings(record: Record) -> Iterator[tuple[Place, Line, str | None]]:
    """Where which publication was seen to stand, by its publisher or by a reader."""
    for each in record.sound("publish"):
        if each.end.kind == "ok":
            place = each.invoke.topic or "", each.end.epoch or "", each.end.offset or 0
            yield place, each.end, each.invoke.work
    for each in record.operations.values():
        for line in each.seen:
            if line.kind == "event":
                yield (line.topic or "", line.epoch or "", line.offset or 0), line, _work_of(record, line)


def _work_of(record: Record, line: Line) -> str | None:
    if line.kind == "event":
        return line.value if isinstance(line.value, str) else None
    return record.operations[line.op].invoke.work
