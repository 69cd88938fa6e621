"""The events' lane: a slow peer loses the oldest events, is told exactly which, and loses nothing else."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz.profile import fuzzing
from tests.hub.doors import Door
from trunkline.hub.gaps import GAP_BYTES
from trunkline.hub.outbox import BULK_BYTES
from trunkline_protocol.codecs.jsonrpc import encode_gap
from trunkline_protocol.events import Event, Position


def event(topic: str, offset: int, epoch: str = "e") -> Event:
    """All of them have :data:`SIZE` bytes."""
    same_size = 10 ** (4 - len(str(offset)))
    return Event(topic, b"1", epoch, offset, same_size).encode()


SIZE = len(event("a", 1).payload)


def gap(topic: str, first: int, last: int, count: int | None, epoch: str = "e") -> tuple[Any, ...]:
    return ("gap", topic, epoch, first, last, count, "slow_consumer")


def told(door: Door) -> list[Any]:
    """What the peer got: ``(topic, offset)`` of events, gaps as :func:`gap` makes them, text of anything else."""
    return [_read(message) for message in door.messages]


def _read(message: bytes) -> Any:
    if not message.startswith(b"{"):
        return message.rstrip(b".").decode()
    params = json.loads(message)["params"]
    if "offset" in params:
        return params["topic"], params["offset"]
    kept = (params["topic"], params["epoch"], params["from"], params["to"], params.get("count"), params["reason"])
    return ("gap", *kept)


def slow_door(events: int = 4, limit: int = 10_000) -> Door:
    """A door with room for so many events, whose transport is full."""
    door = Door(limit=limit, event_limit=events * SIZE)
    door.outbox.pause()
    return door


def send(door: Door, topic: str, *offsets: int) -> None:
    for offset in offsets:
        door.outbox.send_event(event(topic, offset))


def test_a_peer_that_keeps_up_gets_each_event_at_once() -> None:
    door = Door()
    send(door, "a", 1, 2)
    assert told(door) == [("a", 1), ("a", 2)]
    assert door.flusher.asked == [], "nothing to flush"


def test_behind_an_answer_of_this_turn_they_wait_for_the_flush() -> None:
    door = Door()
    door.outbox.send(b"reply")
    send(door, "a", 1, 2)
    assert told(door) == []
    door.flusher.end_of_turn()
    assert told(door) == ["reply", ("a", 1), ("a", 2)]
    send(door, "a", 3)
    assert told(door)[-1] == ("a", 3), "and then at once again"


def test_an_event_that_fills_the_transport_is_the_last_until_it_has_room() -> None:
    door = Door()
    door.stuck = True
    send(door, "a", 1, 2, 3)
    assert told(door) == [("a", 1)]
    door.outbox.resume()
    assert told(door) == [("a", 1), ("a", 2)]
    door.stuck = False
    door.outbox.resume()
    assert told(door) == [("a", 1), ("a", 2), ("a", 3)]


def test_what_has_room_is_not_lost() -> None:
    door = slow_door(events=4)
    send(door, "a", 1, 2, 3, 4)
    door.outbox.resume()
    assert told(door) == [("a", 1), ("a", 2), ("a", 3), ("a", 4)]
    assert door.outbox.dropped_events == 0


def test_the_oldest_are_dropped_and_the_gap_comes_first() -> None:
    door = slow_door(events=4)
    send(door, "a", 1, 2, 3, 4, 5)
    door.outbox.resume()
    assert told(door) == [gap("a", 1, 3, 3), ("a", 4), ("a", 5)]
    assert door.outbox.dropped_events == 3
    assert door.outbox.waiting_bytes == 0


def test_gaps_of_a_topic_become_one() -> None:
    door = slow_door(events=4)
    send(door, "a", *range(1, 10))
    door.outbox.resume()
    assert told(door) == [gap("a", 1, 6, 6), ("a", 7), ("a", 8), ("a", 9)]


def test_each_topic_and_epoch_has_its_own() -> None:
    door = slow_door(events=4)
    send(door, "a", 1)
    send(door, "b", 7)
    door.outbox.send_event(event("a", 1, "f"))
    send(door, "c", 1, 2)
    door.outbox.resume()
    assert told(door) == [gap("a", 1, 1, 1), gap("b", 7, 7, 1), gap("a", 1, 1, 1, "f"), ("c", 1), ("c", 2)]


def test_a_gap_that_was_told_is_over() -> None:
    door = slow_door(events=4)
    send(door, "a", 1, 2, 3, 4, 5)
    door.outbox.resume()
    door.outbox.pause()
    send(door, "a", 6, 7, 8, 9, 10)
    door.outbox.resume()
    assert told(door)[3:] == [gap("a", 6, 8, 3), ("a", 9), ("a", 10)]


def test_a_gap_that_finds_the_transport_full_waits() -> None:
    door = slow_door(events=4)
    send(door, "a", 1, 2, 3, 4, 5)
    door.outbox.send(b"reply")
    door.stuck = True
    door.outbox.resume()
    assert told(door) == ["reply"]
    assert door.outbox.waiting_bytes == GAP_BYTES
    send(door, "a", 6, 7, 8)
    door.stuck = False
    door.outbox.resume()
    assert told(door) == ["reply", gap("a", 1, 6, 6), ("a", 7), ("a", 8)]
    assert door.outbox.waiting_bytes == 0


def test_an_event_larger_than_the_lane_is_told_as_a_gap() -> None:
    door = slow_door(events=4)
    send(door, "a", 1)
    door.outbox.send_event(Event("a", b"1" * 10_000, "e", 2, 0).encode())
    send(door, "a", 3)
    door.outbox.resume()
    assert told(door) == [gap("a", 1, 2, 2), ("a", 3)]


def test_announced_gaps_are_kept_in_front() -> None:
    door = slow_door(events=4)
    announced = encode_gap("a", "e", 1, 5, 5, "history")
    door.outbox.send_gap(announced)
    send(door, "a", *range(6, 14))
    door.outbox.resume()
    assert door.messages[0] == announced
    assert told(door)[1:] == [gap("a", 6, 9, 4), *(("a", n) for n in range(10, 14))]


def test_an_announced_gap_keeps_its_place_among_events() -> None:
    door = slow_door(events=20)
    send(door, "b", 1)
    door.outbox.send_gap(encode_gap("a", "e", 1, 5, 5, "history"))
    send(door, "a", 6)
    door.outbox.resume()
    assert told(door) == [("b", 1), ("gap", "a", "e", 1, 5, 5, "history"), ("a", 6)]


def test_what_is_sent_twice_hides_nothing() -> None:
    """A replay may come behind newer events of its topic, which a pattern had asked for."""
    door = slow_door(events=4)
    send(door, "a", 3, 4, 1, 2, 3, 4, 5)
    door.outbox.resume()
    # 3 4 1 are dropped first: 2 is none of them, but who has not got 1 has not got 2 either, as far as one can tell.
    assert told(door) == [gap("a", 1, 4, None), ("a", 2), ("a", 3), ("a", 4), ("a", 5)]


# --- answers are not harmed ---


def test_answers_go_ahead_of_events_and_are_never_dropped() -> None:
    door = slow_door(events=4)
    for offset in range(1, 9):
        send(door, "a", offset)
        door.outbox.send(b"reply %d" % offset)
    door.outbox.resume()
    assert told(door) == [*(f"reply {n}" for n in range(1, 9)), gap("a", 1, 6, 6), ("a", 7), ("a", 8)]


def test_large_answers_too() -> None:
    door = slow_door(events=4, limit=10 * BULK_BYTES)
    send(door, "a", 1, 2, 3, 4, 5)
    door.outbox.send(b"large".ljust(BULK_BYTES, b"."))
    door.stuck = True
    door.outbox.resume()
    door.stuck = False
    door.outbox.resume()
    assert told(door) == ["large", gap("a", 1, 3, 3), ("a", 4), ("a", 5)]


def test_events_never_cut_a_peer_off() -> None:
    door = slow_door(events=4, limit=2 * GAP_BYTES)
    send(door, "a", *range(1, 2000))
    assert door.overflows == 0
    assert not door.outbox.closed
    assert door.outbox.waiting_bytes == GAP_BYTES


def test_answers_do_and_gaps_count_among_them() -> None:
    door = slow_door(events=4, limit=3 * GAP_BYTES)
    for number in range(3):
        send(door, f"a{number}", *range(1, 10))
    assert door.overflows == 0
    send(door, "another", *range(1, 10))
    assert door.overflows == 1, "gaps of any number of topics would not be bounded"
    assert door.outbox.closed
    send(door, "a", 1)
    door.outbox.resume()
    assert told(door) == []


def test_many_events_in_one_turn_are_no_slow_peer() -> None:
    """A replay, for example: it comes in one go behind the reply, and the transport has room."""
    door = Door(event_limit=4 * SIZE)
    door.outbox.send(b"reply")
    send(door, "a", *range(1, 10))
    door.flusher.end_of_turn()
    assert told(door) == ["reply", *(("a", n) for n in range(1, 10))]


def test_events_leave_streams_alone() -> None:
    door = Door(event_limit=10**9)
    door.outbox.send(b"reply")
    door.outbox.send_event(Event("a", b"1" * 10**6, "e", 1, 0).encode())
    assert door.outbox.writable()


# --- unsubscribing ---


def test_forgotten_topics_come_no_more() -> None:
    door = slow_door(events=10)
    send(door, "a", 1, 2)
    send(door, "b", 1)
    send(door, "a", 3)
    door.outbox.forget_events(lambda topic: topic != "a")
    door.outbox.send(b"reply")
    door.outbox.resume()
    assert told(door) == ["reply", ("b", 1)]


def test_their_room_is_free_again() -> None:
    door = slow_door(events=4)
    send(door, "a", 1, 2, 3, 4)
    door.outbox.forget_events(lambda _: False)
    send(door, "b", 1, 2, 3, 4)
    door.outbox.resume()
    assert told(door) == [("b", n) for n in (1, 2, 3, 4)]


def test_their_gaps_are_forgotten_too() -> None:
    door = slow_door(events=4)
    send(door, "a", 1, 2)
    send(door, "b", 1, 2, 3)
    door.outbox.forget_events(lambda topic: topic != "a")
    send(door, "b", 4)
    door.outbox.resume()
    assert told(door) == [gap("b", 1, 1, 1), ("b", 2), ("b", 3), ("b", 4)]
    assert door.outbox.waiting_bytes == 0


def test_a_gap_of_an_earlier_subscription_is_none_of_the_next_ones() -> None:
    door = slow_door(events=4)
    send(door, "a", 1, 2, 3, 4, 5)
    door.outbox.forget_events(lambda _: False)
    assert door.outbox.waiting_bytes == 0
    send(door, "a", *range(8, 13))
    door.outbox.resume()
    assert told(door) == [gap("a", 8, 10, 3), ("a", 11), ("a", 12)]


def test_announced_gaps_are_not_forgotten() -> None:
    door = slow_door(events=10)
    door.outbox.send_gap(encode_gap("a", "e", 1, 5, 5, "history"))
    door.outbox.forget_events(lambda _: False)
    door.outbox.resume()
    assert len(door.messages) == 1


@pytest.mark.parametrize("state", ["fresh", "closed"])
def test_forgetting_where_there_is_nothing(state: str) -> None:
    door = Door()
    if state == "closed":
        door.outbox.close()
    door.outbox.forget_events(lambda _: False)
    assert door.messages == []


# --- whatever happens ---

steps = st.lists(
    st.sampled_from(["a", "b", "c", "a", "b", "c", "reply", "large", "pause", "resume", "stuck", "turn"]), max_size=80
)


@fuzzing(200)
@given(steps, st.integers(1, 8))
def test_each_event_is_delivered_or_in_a_gap_once_and_in_order(steps: list[str], room: int) -> None:
    door = Door(limit=10**9, event_limit=room * SIZE)
    heads = dict.fromkeys("abc", 0)
    replies = 0
    for step in steps:
        if step in heads:
            heads[step] += 1
            send(door, step, heads[step])
        elif step in ("reply", "large"):
            replies += 1
            door.outbox.send(step.encode().ljust(BULK_BYTES if step == "large" else 0, b"."))
        elif step == "turn":
            door.flusher.end_of_turn()
        elif step == "pause":
            door.outbox.pause()
        else:
            door.stuck = step == "stuck"
            door.outbox.resume()
    door.stuck = False
    door.outbox.resume()
    seen = dict.fromkeys("abc", 0)
    answers = 0
    for item in told(door):
        if isinstance(item, str):
            answers += 1
        elif item[0] == "gap":
            _, topic, _, first, last, count, _ = item
            assert (first, last) == (seen[topic] + 1, seen[topic] + count), item
            seen[topic] = last
        else:
            topic, offset = item
            assert offset == seen[topic] + 1, item
            seen[topic] = offset
    assert seen == heads
    assert answers == replies
    assert (door.outbox.waiting_bytes, door.outbox._event_bytes) == (0, 0)


def test_replays_go_first_and_are_not_dropped() -> None:
    door = slow_door(4)
    send(door, "a", 5, 6, 7, 8, 9)
    door.outbox.replay([event("a", offset) for offset in range(1, 5)])
    door.outbox.resume()
    assert told(door)[:5] == [("a", 1), ("a", 2), ("a", 3), ("a", 4), gap("a", 5, 7, 3)]
    door.writes.clear()
    send(door, "a", 10)
    assert told(door) == [("a", 10)], "nothing waits: the next one is written at once"


def test_what_is_replayed_is_neither_sent_twice_nor_announced_as_missing() -> None:
    door = slow_door(4)
    send(door, "a", 1, 2, 3, 4, 5, 6)
    send(door, "b", 1)
    door.outbox.withhold("a", Position("e", 1))
    door.outbox.replay([event("a", offset) for offset in range(2, 7)])
    door.outbox.resume()
    replayed = [("a", offset) for offset in range(2, 7)]
    assert told(door) == [*replayed, gap("a", 1, 1, 1), ("b", 1)]
