from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from tests.hub.doors import Door
from trunkline.hub.outbox import STREAM_PAUSE_BYTES, Flusher


def test_messages_of_one_turn_are_written_together_and_in_order() -> None:
    door = Door()
    for message in (b"1", b"2", b"3"):
        door.outbox.send(message)
    assert door.writes == []
    door.flusher.end_of_turn()
    assert door.writes == [[b"1", b"2", b"3"]]


def test_it_asks_for_one_flush_a_turn() -> None:
    door = Door()
    for _ in range(5):
        door.outbox.send(b"x")
    assert len(door.flusher.asked) == 1
    door.flusher.end_of_turn()
    door.outbox.send(b"x")
    assert len(door.flusher.asked) == 1


def test_nothing_is_written_while_paused() -> None:
    door = Door()
    door.outbox.pause()
    door.outbox.send(b"1")
    door.flusher.end_of_turn()
    assert door.writes == []
    door.outbox.resume()
    assert door.messages == [b"1"]


def test_chunks_and_replies_keep_their_common_order() -> None:
    door = Door()
    door.outbox.send(b"chunk", chunk=True)
    door.outbox.send(b"reply")
    door.outbox.send(b"other", chunk=True)
    door.flusher.end_of_turn()
    assert door.messages == [b"chunk", b"reply", b"other"]


def test_overflow_closes_once() -> None:
    door = Door(limit=10)
    door.outbox.pause()
    for _ in range(5):
        door.outbox.send(b"123456")
    assert door.overflows == 1
    assert door.outbox.closed
    assert door.outbox.waiting_bytes == 0
    door.outbox.resume()
    door.flusher.end_of_turn()
    assert door.writes == []


def test_what_waits_for_this_turn_only_is_no_overflow() -> None:
    door = Door(limit=10)
    for _ in range(5):
        door.outbox.send(b"123456")
    door.flusher.end_of_turn()
    assert (door.overflows, len(door.messages)) == (0, 5)


def test_chunks_do_not_cut_a_peer_off() -> None:
    door = Door(limit=10)
    door.outbox.pause()
    door.outbox.send(b"x" * 100, chunk=True)
    door.outbox.send(b"reply")
    assert door.overflows == 0
    assert not door.outbox.writable()
    door.outbox.resume()
    assert door.messages[-1] == b"reply"


def test_streams_are_asked_to_wait_and_told_when_to_go_on() -> None:
    door, told = Door(limit=10 * STREAM_PAUSE_BYTES), []
    door.outbox.when_resumed(lambda: told.append(1))
    assert door.outbox.writable()
    door.outbox.send(b"x" * STREAM_PAUSE_BYTES, chunk=True)
    assert not door.outbox.writable()
    door.flusher.end_of_turn()
    assert told == [1]
    assert door.outbox.writable()


def test_nobody_is_told_who_was_not_refused() -> None:
    door, told = Door(), []
    door.outbox.when_resumed(lambda: told.append(1))
    door.outbox.pause()
    door.outbox.send(b"x")
    door.outbox.resume()
    assert told == []


def test_a_flush_that_fills_the_transport_again_offers_nothing() -> None:
    door, told = Door(), []
    door.outbox.when_resumed(lambda: told.append(1))
    door.outbox.pause()
    assert not door.outbox.writable()
    door.outbox.send(b"x")
    door.stuck = True
    door.outbox.resume()
    assert told == []
    door.stuck = False
    door.outbox.resume()
    assert told == [1]


def test_a_closed_one_takes_and_writes_nothing() -> None:
    door = Door()
    door.outbox.send(b"1")
    door.outbox.close()
    door.outbox.send(b"2")
    door.outbox.send(b"3", chunk=True)
    door.flusher.end_of_turn()
    door.outbox.resume()
    assert door.writes == []
    assert not door.outbox.writable()
    assert door.outbox.waiting_bytes == 0


steps = st.lists(st.sampled_from(["send", "chunk", "pause", "resume", "turn"]), max_size=60)


@given(steps)
def test_whatever_happens_all_is_written_once_and_in_order(steps: list[str]) -> None:
    door, sent, paused = Door(limit=10**9), [], False
    for number, step in enumerate(steps):
        message = b"%d" % number
        before = len(door.writes)
        if step in ("send", "chunk"):
            door.outbox.send(message, chunk=step == "chunk")
            sent.append(message)
        elif step == "turn":
            door.flusher.end_of_turn()
        else:
            getattr(door.outbox, step)()
            paused = step == "pause"
        assert not paused or len(door.writes) == before
    door.outbox.resume()
    door.flusher.end_of_turn()
    assert door.messages == sent
    assert door.outbox.waiting_bytes == 0


async def test_the_real_flusher_runs_at_the_end_of_the_turn() -> None:
    flusher = Flusher(asyncio.get_running_loop())
    order: list[str] = []

    def again() -> None:
        order.append("b")
        flusher.schedule(lambda: order.append("c"))

    flusher.schedule(lambda: order.append("a"))
    flusher.schedule(again)
    assert order == []
    await asyncio.sleep(0)
    assert order == ["a", "b"]
    await asyncio.sleep(0)
    assert order == ["a", "b", "c"]


async def test_a_connection_that_cannot_be_written_to_does_not_keep_the_others_from_it() -> None:
    flusher, order = Flusher(asyncio.get_running_loop()), []

    def fail() -> None:
        raise OSError("gone")

    flusher.schedule(fail)
    flusher.schedule(lambda: order.append("after"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert order == ["after"]
