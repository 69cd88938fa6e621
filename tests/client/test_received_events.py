"""What one subscription takes from a connection that carries the events of all."""

from __future__ import annotations

import pytest

from trunkline.client import Event, Gap, Position
from trunkline.client.received_events import MAX_OVERLOOKED, MAX_TOPICS, TopicPositions

E1 = "e1"


def event(offset: int, topic: str = "a", epoch: str = E1) -> Event:
    return Event(topic, None, epoch, offset, 0)


def gap(start: int, end: int, reason: str = "slow_consumer", *, topic: str = "a", epoch: str = E1) -> Gap:
    return Gap(topic, epoch, start, end, end - start + 1, reason)


def subscribed(
    offset: int, asked: Position | None = None, *, recovered: bool = False, epoch: str = E1
) -> TopicPositions:
    arrivals = TopicPositions()
    arrivals.start("a", Position(epoch, offset), asked, recovered=recovered)
    return arrivals


def taken(arrivals: TopicPositions, *items: Event | Gap) -> list[Event | Gap]:
    return [result for item in items for result in arrivals.take(item)]


def offsets(items: list[Event | Gap]) -> list[int | tuple[int, int]]:
    return [item.offset if isinstance(item, Event) else (item.start, item.end) for item in items]


def test_what_follows_the_head_is_taken_and_what_others_replay_is_not() -> None:
    arrivals = subscribed(5)
    assert offsets(taken(arrivals, *map(event, (3, 4, 5, 6, 7, 4, 5, 6, 7, 8)))) == [6, 7, 8]


def test_a_gap_stands_in_its_place() -> None:
    assert taken(subscribed(5), event(6), gap(7, 9), event(10)) == [event(6), gap(7, 9), event(10)]


def test_a_hole_nobody_announced_is_announced_here() -> None:
    assert taken(subscribed(5), event(6), event(9)) == [event(6), gap(7, 8, "missing"), event(9)]


def test_a_gap_of_others_is_not_ours() -> None:
    assert taken(subscribed(5), gap(2, 5), event(6)) == [event(6)]


def test_a_gap_that_reaches_further_back_is_clipped() -> None:
    assert taken(subscribed(5), gap(2, 7), event(8)) == [gap(6, 7), event(8)]


def test_a_gap_that_begins_late_is_widened() -> None:
    assert taken(subscribed(5), gap(8, 9), event(10)) == [gap(6, 9), event(10)]


def test_a_gap_of_unknown_size_stays_so() -> None:
    unknown = Gap("a", E1, 6, 9, None, "slow_consumer")
    assert taken(subscribed(5), unknown) == [unknown]


# --- recovering ---


def test_a_replay_is_taken_from_the_asked_position() -> None:
    arrivals = subscribed(2, Position(E1, 2), recovered=True)
    assert offsets(taken(arrivals, *map(event, (3, 4, 5, 6)))) == [3, 4, 5, 6]


def test_what_was_sent_for_others_before_the_replay_is_overlooked_and_comes_with_it() -> None:
    arrivals = subscribed(2, Position(E1, 2), recovered=True)
    assert offsets(taken(arrivals, *map(event, (6, 7, 3, 4, 5, 6, 7, 8)))) == [3, 4, 5, 6, 7, 8]


def test_what_others_lost_before_the_replay_comes_with_it() -> None:
    arrivals = subscribed(2, Position(E1, 2), recovered=True)
    assert offsets(taken(arrivals, gap(5, 6), event(7), *map(event, range(3, 9)))) == [3, 4, 5, 6, 7, 8]


def test_a_replay_that_omits_what_was_sent_before_is_a_gap_and_no_silence() -> None:
    arrivals = subscribed(2, Position(E1, 2), recovered=True)
    items = taken(arrivals, *map(event, (6, 3, 4, 5, 7)))
    assert items == [event(3), event(4), event(5), gap(6, 6, "missing"), event(7)]


def test_a_replay_that_never_comes_is_a_gap_and_no_silence() -> None:
    arrivals = subscribed(2, Position(E1, 2), recovered=True)
    items = taken(arrivals, *map(event, range(10, 10 + MAX_OVERLOOKED + 2)))
    first = 10 + MAX_OVERLOOKED
    assert items == [gap(3, first - 1, "missing"), event(first), event(first + 1)]


def test_a_replay_that_begins_late_is_a_gap() -> None:
    arrivals = subscribed(2, Position(E1, 2), recovered=True)
    assert offsets(taken(arrivals, event(9), event(5), event(6))) == [(3, 4), 5, 6]


def test_a_replay_whose_beginning_was_dropped_begins_with_its_gap() -> None:
    arrivals = subscribed(2, Position(E1, 2), recovered=True)
    assert taken(arrivals, gap(3, 40), event(41)) == [gap(3, 40), event(41)]


def test_a_gap_that_mixes_what_was_sent_before_with_the_replay_is_a_gap() -> None:
    arrivals = subscribed(2, Position(E1, 2), recovered=True)
    assert taken(arrivals, gap(51, 40), event(41)) == [gap(3, 40), event(41)]


def test_what_is_not_kept_any_more_is_one_gap_up_to_the_head() -> None:
    arrivals = subscribed(60, Position(E1, 10))
    items = taken(arrivals, event(58), event(59), event(60), gap(11, 60, "history"), event(61))
    assert items == [gap(11, 60, "history"), event(61)]


def test_when_that_gap_does_not_come_it_is_announced_here() -> None:
    assert taken(subscribed(60, Position(E1, 10)), event(61)) == [gap(11, 60, "missing"), event(61)]


@pytest.mark.parametrize(
    ("asked", "head"),
    [(Position("e0", 10), 60), (Position("e0", 10), 5), (Position(E1, 100), 60)],
    ids=["another epoch", "another epoch, further back", "a position that was never reached"],
)
def test_a_position_the_hub_does_not_know_is_a_gap_from_1(asked: Position, head: int) -> None:
    announced = gap(1, head, "epoch")
    assert taken(subscribed(head, asked), announced, event(head + 1)) == [announced, event(head + 1)]


def test_another_epoch_without_events_is_told_too() -> None:
    empty = Gap("a", E1, 1, 0, None, "epoch")
    assert taken(subscribed(0, Position("e0", 10)), empty, event(1)) == [empty, event(1)]
    assert taken(subscribed(0), empty, event(1)) == [event(1)], "nobody asked"


# --- epochs and patterns ---


def test_a_new_epoch_begins_anew() -> None:
    assert offsets(taken(subscribed(5), event(6), event(1, epoch="e2"), event(2, epoch="e2"))) == [6, 1, 2]


def test_a_new_epoch_that_does_not_begin_at_1_has_a_gap() -> None:
    expected = [gap(1, 2, "epoch", epoch="e2"), event(3, epoch="e2")]
    assert taken(subscribed(5), event(3, epoch="e2")) == expected
    announced = gap(1, 2, "epoch", epoch="e2")
    assert taken(subscribed(5), announced, event(3, epoch="e2")) == expected


def test_a_pattern_takes_topics_from_their_first_event_on() -> None:
    arrivals = TopicPositions()
    items = taken(arrivals, event(7, "b"), event(1, "c"), event(8, "b"), event(7, "b"), event(3, "c"))
    assert items == [event(7, "b"), event(1, "c"), event(8, "b"), gap(2, 2, "missing", topic="c"), event(3, "c")]


def test_memory_of_topics_is_bounded() -> None:
    arrivals = TopicPositions()
    for number in range(MAX_TOPICS + 10):
        assert arrivals.take(event(5, f"t{number}"))
    assert arrivals.take(event(5, "t0")), "forgotten"
    assert not arrivals.take(event(5, "t500"))


# --- another connection ---


def again(arrivals: TopicPositions, offset: int, asked: int, *, recovered: bool, epoch: str = E1) -> tuple[Gap, ...]:
    return arrivals.restart("a", Position(epoch, offset), Position(E1, asked), recovered=recovered)


def test_it_goes_on_where_it_was() -> None:
    arrivals = subscribed(5)
    taken(arrivals, event(6), gap(7, 9))
    assert arrivals.position("a") == Position(E1, 9)
    assert again(arrivals, 9, 9, recovered=True) == ()
    assert offsets(taken(arrivals, event(10), event(11))) == [10, 11]


def test_what_is_replayed_for_another_reader_is_no_news() -> None:
    arrivals = subscribed(9)
    assert again(arrivals, 6, 6, recovered=True) == ()
    assert offsets(taken(arrivals, *map(event, (7, 8, 9, 10, 11)))) == [10, 11]


def test_what_is_gone_is_told_from_ones_own_position() -> None:
    arrivals = subscribed(9)
    assert again(arrivals, 30, 6, recovered=False) == ()
    assert taken(arrivals, gap(7, 30, "history"), event(31)) == [gap(10, 30, "history"), event(31)]


def test_a_new_epoch_is_told() -> None:
    arrivals = subscribed(9)
    assert again(arrivals, 2, 9, recovered=False, epoch="e2") == ()
    lost = gap(1, 2, "epoch", epoch="e2")
    assert taken(arrivals, lost, event(3, epoch="e2")) == [lost, event(3, epoch="e2")]


def test_a_new_epoch_that_was_not_told_is_asked_for_once_more() -> None:
    arrivals = subscribed(9)
    again(arrivals, 2, 9, recovered=False, epoch="e2")
    assert arrivals.position("a") == Position(E1, 9), "the gap is still to come"
    assert again(arrivals, 3, 9, recovered=False, epoch="e2") == ()
    lost = gap(1, 3, "epoch", epoch="e2")
    assert taken(arrivals, lost) == [lost]
    assert arrivals.position("a") == Position("e2", 3)


def test_whose_epoch_is_older_than_that_of_another_reader() -> None:
    arrivals = TopicPositions()
    arrivals.start("a", Position("e0", 4), None, recovered=False)
    assert again(arrivals, 6, 6, recovered=True) == (gap(1, 6, "epoch"),)
    assert offsets(taken(arrivals, event(7))) == [7]


def test_what_others_got_before_the_replay_comes_with_the_replay() -> None:
    arrivals = subscribed(9)
    again(arrivals, 9, 9, recovered=True)
    assert offsets(taken(arrivals, event(15), event(16), *map(event, range(10, 18)))) == list(range(10, 18))
