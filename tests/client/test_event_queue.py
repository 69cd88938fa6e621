"""The queue before a slow reader: bounded, in order, and honest."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from trunkline.client import Event, Gap
from trunkline.client.received_events import MAX_LISTED, EventQueue


def event(offset: int, topic: str = "a", epoch: str = "e") -> Event:
    return Event(topic, None, epoch, offset, 0)


def lost(start: int, end: int, topic: str = "a", epoch: str = "e") -> Gap:
    return Gap(topic, epoch, start, end, end - start + 1, "client_slow")


def filled(limit: int, *items: Event | Gap) -> EventQueue:
    backlog = EventQueue(">", limit)
    for item in items:
        backlog.add(item)
    return backlog


def drained(backlog: EventQueue) -> list[Event | Gap]:
    found = []
    while (item := backlog.next()) is not None:
        found.append(item)
    return found


def test_what_fits_is_handed_out_as_it_came() -> None:
    items: list[Event | Gap] = [event(1), Gap("a", "e", 2, 3, None, "history"), event(4)]
    assert drained(filled(3, *items)) == items


def test_the_oldest_become_one_gap() -> None:
    assert drained(filled(2, *map(event, range(1, 8)))) == [lost(1, 5), event(6), event(7)]


def test_each_topic_and_epoch_has_its_own_gap() -> None:
    items = [event(1), event(1, "b"), event(2), event(1, epoch="f"), event(3, "b")]
    found = drained(filled(1, *items))
    assert found == [lost(1, 2), lost(1, 1, "b"), lost(1, 1, epoch="f"), event(3, "b")]


def test_a_dropped_gap_is_not_lost() -> None:
    hub = Gap("a", "e", 2, 9, 8, "slow_consumer")
    assert drained(filled(1, hub, event(10))) == [hub, event(10)]
    assert drained(filled(1, event(1), hub, event(10), event(11))) == [lost(1, 10), event(11)]
    unknown = Gap("a", "e", 2, 9, None, "slow_consumer")
    assert drained(filled(1, event(1), unknown, event(10))) == [Gap("a", "e", 1, 9, None, "client_slow"), event(10)]


def test_losses_of_too_many_topics_are_counted_together() -> None:
    backlog = filled(2, *(event(1, f"t{number}") for number in range(MAX_LISTED + 8)))
    together, *gaps, before_last, last = drained(backlog)
    assert together == Gap(">", "", 0, 0, 6, "client_slow")
    assert gaps == [lost(1, 1, f"t{number}") for number in range(6, MAX_LISTED + 6)]
    assert (before_last, last) == (event(1, f"t{MAX_LISTED + 6}"), event(1, f"t{MAX_LISTED + 7}"))
    assert backlog.next() is None


def test_crowded_from_half_on() -> None:
    backlog = EventQueue("a", 4)
    seen = []
    for offset in range(1, 5):
        backlog.add(event(offset))
        seen.append(backlog.is_crowded)
    assert seen == [False, False, True, True]


@given(limit=st.integers(1, 6), steps=st.lists(st.sampled_from(["a", "b", None]), max_size=60))
def test_whatever_the_reader_does_every_offset_is_accounted_for_once_and_in_order(
    limit: int, steps: list[str | None]
) -> None:
    backlog, sent, seen = EventQueue("*", limit), {"a": 0, "b": 0}, {"a": 0, "b": 0}

    def read() -> bool:
        item = backlog.next()
        if item is None:
            return False
        first, last = (item.offset, item.offset) if isinstance(item, Event) else (item.start, item.end)
        assert first == seen[item.topic] + 1
        seen[item.topic] = last
        return True

    for topic in steps:
        if topic is None:
            read()
        else:
            sent[topic] += 1
            backlog.add(event(sent[topic], topic))
    while read():
        pass
    assert seen == sent
