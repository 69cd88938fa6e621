"""The lanes of an outbox: what goes ahead of what, and what never overtakes (events: test_outbox_events.py)."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tests.fuzz.profile import fuzzing
from tests.hub.doors import Door, FakeBackend, connection, services
from trunkline.hub.outbox import BULK_BYTES, READ_PAUSE_BYTES, STREAM_PAUSE_BYTES
from trunkline.hub.router import Router
from trunkline_protocol.events import Event

WIDE = 100 * BULK_BYTES


def big(name: str) -> bytes:
    return name.encode().ljust(BULK_BYTES, b".")


def names(door: Door) -> list[str]:
    return [message.rstrip(b".").decode() for message in door.messages]


def event(name: str) -> Event:
    made = Event("t", b"1", "e", 1, 0)
    made.payload = name.encode()
    return made


def wide_door() -> Door:
    return Door(limit=WIDE, event_limit=WIDE)


def test_control_then_bulk_then_events() -> None:
    door = wide_door()
    door.outbox.send(b"small")
    door.outbox.send_event(event("event"))
    door.outbox.send(big("big"))
    door.outbox.send(b"later")
    door.outbox.send(big("bigger"))
    door.flusher.end_of_turn()
    assert names(door) == ["small", "later", "big", "bigger", "event"]
    assert [len(write) for write in door.writes] == [2, 1, 1, 1], "large messages are written one by one"


def test_so_it_is_after_a_pause_too() -> None:
    door = wide_door()
    door.outbox.pause()
    door.outbox.send_event(event("event"))
    door.outbox.send(big("big"))
    door.outbox.send(b"small")
    door.outbox.resume()
    assert names(door) == ["small", "big", "event"]


def test_the_limit_between_small_and_large() -> None:
    door = wide_door()
    door.outbox.send(b"x" * BULK_BYTES)
    door.outbox.send(b"y" * (BULK_BYTES - 1))
    door.flusher.end_of_turn()
    assert [message[:1] for message in door.messages] == [b"y", b"x"]


def test_one_calls_messages_keep_their_order_whatever_their_size() -> None:
    door, mark = wide_door(), 0
    for message in (b"0", big("1"), b"2", b"3", big("4"), b"5"):
        mark = door.outbox.send(message, mark, chunk=True)
    door.outbox.send(b"another")
    door.flusher.end_of_turn()
    assert names(door) == ["0", "another", "1", "2", "3", "4", "5"]


def test_what_follows_a_large_message_that_is_written_already_is_small_again() -> None:
    door = wide_door()
    mark = door.outbox.send(big("1"))
    door.flusher.end_of_turn()
    door.outbox.send(big("other"))
    door.outbox.send(b"2", mark)
    door.flusher.end_of_turn()
    assert names(door) == ["1", "2", "other"]


def test_calls_do_not_wait_for_each_others_large_messages() -> None:
    door = wide_door()
    first = door.outbox.send(big("a1"))
    door.outbox.send(b"a2", first)
    door.outbox.send(b"b1", 0)
    door.flusher.end_of_turn()
    assert names(door) == ["b1", "a1", "a2"]


def test_a_small_reply_waits_for_one_large_one_at_most() -> None:
    door = wide_door()
    door.stuck = True
    for number in range(3):
        door.outbox.send(big(f"big{number}"))
    door.flusher.end_of_turn()
    assert names(door) == ["big0"], "the transport is full after the first"
    mark = door.outbox.send(b"small")
    door.outbox.send(b"smaller", mark)
    door.outbox.resume()
    assert names(door) == ["big0", "small", "smaller"]
    door.outbox.resume()
    door.outbox.resume()
    assert names(door)[3:] == ["big1", "big2"]


def test_marks_hold_over_pauses() -> None:
    door, mark = wide_door(), 0
    door.stuck = True
    for name in ("0", "1", "2"):
        mark = door.outbox.send(big(name), mark, chunk=True)
    door.flusher.end_of_turn()
    mark = door.outbox.send(b"3", mark)
    door.outbox.resume()
    assert names(door) == ["0", "1"]
    door.outbox.send(b"4", mark)
    for _ in range(3):
        door.outbox.resume()
    assert names(door) == ["0", "1", "2", "3", "4"]


def test_waiting_bytes() -> None:
    door = wide_door()
    door.outbox.pause()
    door.outbox.send(b"12345")
    door.outbox.send(big("1"), chunk=True)
    door.outbox.send(big("2"))
    assert door.outbox.waiting_bytes == 5 + 2 * BULK_BYTES
    door.stuck = True
    door.outbox.resume()
    assert door.outbox.waiting_bytes == 2 * BULK_BYTES
    door.outbox.resume()
    assert door.outbox.waiting_bytes == BULK_BYTES
    door.outbox.resume()
    assert door.outbox.waiting_bytes == 0


def test_large_replies_count_for_the_cut_off_and_large_chunks_do_not() -> None:
    door = Door(limit=2 * BULK_BYTES)
    door.outbox.pause()
    for number in range(5):
        door.outbox.send(big(str(number)), chunk=True)
    assert door.overflows == 0
    door.outbox.send(big("reply"))
    door.outbox.send(big("reply"))
    assert door.overflows == 0
    door.outbox.send(b"one too many")
    assert door.overflows == 1


def test_chunks_that_were_written_leave_room_for_nothing_more() -> None:
    """What is left of the count after a part was written is the rest, of either kind."""
    door = Door(limit=BULK_BYTES)
    door.stuck = True
    door.outbox.pause()
    for number in range(3):
        door.outbox.send(big(str(number)), chunk=True)
    door.outbox.resume()
    door.outbox.send(b"x" * BULK_BYTES)
    assert door.overflows == 0
    door.outbox.send(b"x")
    assert door.overflows == 1


def test_streams_wait_for_large_messages_too() -> None:
    door, told = wide_door(), []
    door.outbox.when_resumed(lambda: told.append(len(door.messages)))
    door.stuck = True
    for number in range(STREAM_PAUSE_BYTES // BULK_BYTES + 2):
        door.outbox.send(big(str(number)), chunk=True)
    door.flusher.end_of_turn()
    assert not door.outbox.writable()
    door.outbox.resume()
    assert told == []
    door.stuck = False
    door.outbox.resume()
    assert told == [STREAM_PAUSE_BYTES // BULK_BYTES + 2]


# --- a peer that does not read is not read either ---

PORTION = READ_PAUSE_BYTES // 8


def test_with_much_waiting_the_peer_is_not_read_until_half_of_it_is_gone() -> None:
    door = Door(limit=10 * READ_PAUSE_BYTES)
    door.stuck = True
    door.outbox.pause()
    for _ in range(8):
        door.outbox.send(b"x" * PORTION)
    reading = [door.reading]
    door.outbox.send(b"x" * PORTION)
    assert [*reading, door.reading] == [True, False]
    while door.outbox.waiting_bytes >= READ_PAUSE_BYTES // 2:
        assert not door.reading
        door.outbox.resume()
    assert door.reading
    assert door.outbox.waiting_bytes > 0
    for _ in range(6):
        door.outbox.send(b"x" * PORTION)
    assert not door.reading, "and so on"


def test_what_waits_for_this_turn_only_stops_nobody() -> None:
    door = Door(limit=10 * READ_PAUSE_BYTES)
    door.outbox.send(b"x" * (READ_PAUSE_BYTES + 1))
    assert door.reading


def test_events_do_not_stop_it() -> None:
    door = Door(event_limit=10 * READ_PAUSE_BYTES)
    door.outbox.pause()
    for _ in range(3):
        door.outbox.send_event(event("x" * READ_PAUSE_BYTES))
    door.outbox.send(b"reply")
    assert door.reading


# --- a call's own messages ---


async def test_progress_chunks_final_chunk_and_reply_stay_in_order() -> None:
    door, backend = wide_door(), FakeBackend()
    peer = connection(services(Router(backend, lambda *_: None)), door)
    request = {"jsonrpc": "2.0", "id": 1, "method": "work.stream", "metadata": {"progress_token": "p"}}
    peer.receive(json.dumps(request).encode())
    (call,) = backend.calls
    large = json.dumps("x" * BULK_BYTES).encode()
    call.progress(b"0")
    call.stream(b'"data"', b"1")
    call.stream(b'"data"', large)
    call.progress(b"2")
    call.stream(b'"data"', b"3")
    call.progress(large)
    call.settle_result(b"4")
    assert [_kind(message) for message in door.said()] == [
        "progress",
        "chunk 0",
        "chunk 1",
        "progress",
        "chunk 2",
        "progress",
        "chunk 3 final",
        "reply",
    ]


async def test_a_failed_stream_ends_behind_its_chunks() -> None:
    door, backend = wide_door(), FakeBackend()
    peer = connection(services(Router(backend, lambda *_: None)), door)
    peer.receive(b'{"jsonrpc":"2.0","id":1,"method":"work.stream"}')
    peer.receive(b'{"jsonrpc":"2.0","id":2,"method":"work.do"}')
    stream, other = backend.calls
    stream.stream(b'"data"', json.dumps("x" * BULK_BYTES).encode())
    peer.receive(b'{"jsonrpc":"2.0","method":"$/cancelRequest","params":{"id":1}}')
    other.settle_result(b"0")
    said = door.said()
    assert [_kind(message) for message in said] == ["reply", "chunk 0", "reply"]
    assert [message.get("id") for message in said] == [2, None, 1]


async def test_a_batch_comes_behind_the_chunks_of_its_streams() -> None:
    door, backend = wide_door(), FakeBackend()
    peer = connection(services(Router(backend, lambda *_: None)), door)
    members = [{"jsonrpc": "2.0", "id": n, "method": method} for n, method in enumerate(("work.stream", "work.do"))]
    peer.receive(json.dumps(members).encode())
    stream, other = backend.calls
    stream.stream(b'"data"', json.dumps("x" * BULK_BYTES).encode())
    stream.settle_result(b"0")
    other.settle_result(b"0")
    assert [_kind(message) for message in door.said()] == ["chunk 0", "chunk 1 final", "batch"]


def _kind(message: Any) -> str:
    if isinstance(message, list):
        return "batch"
    if message.get("method") == "$/progress":
        return "progress"
    if message.get("method") == "stream_chunk":
        params = message["params"]
        return f"chunk {params['index']}{' final' if params['is_final'] else ''}"
    return "reply"


class Lanes(RuleBasedStateMachine):
    """Calls that send small and large messages over a transport that is full now and then."""

    def __init__(self) -> None:
        super().__init__()
        self.door = wide_door()
        self.marks = dict.fromkeys(range(3), 0)
        self.sent: dict[int, list[int]] = {call: [] for call in self.marks}
        self.number = 0
        self.paused = False
        self.written_at_pause = 0

    @rule(call=st.integers(0, 2), large=st.booleans(), chunk=st.booleans())
    def send(self, call: int, large: bool, chunk: bool) -> None:
        self.number += 1
        text = b"%d:%d" % (call, self.number)
        message = text.ljust(BULK_BYTES, b".") if large else text
        self.marks[call] = self.door.outbox.send(message, self.marks[call], chunk=chunk)
        self.sent[call].append(self.number)

    @rule()
    def pause(self) -> None:
        self.door.outbox.pause()
        self._note_pause()

    @rule(full_again=st.booleans())
    def resume(self, full_again: bool) -> None:
        self.door.stuck = full_again
        written = len(self.door.writes)
        self.door.outbox.resume()
        self.paused = full_again and len(self.door.writes) > written
        self.written_at_pause = len(self.door.writes)

    @precondition(lambda self: not self.paused)
    @rule()
    def turn(self) -> None:
        self.door.stuck = False
        self.door.flusher.end_of_turn()

    @precondition(lambda self: self.paused)
    @rule()
    def turn_while_paused(self) -> None:
        self.door.flusher.end_of_turn()

    def _note_pause(self) -> None:
        self.paused = True
        self.written_at_pause = len(self.door.writes)

    @invariant()
    def nothing_is_written_while_paused(self) -> None:
        assert not self.paused or len(self.door.writes) == self.written_at_pause

    @invariant()
    def the_bytes_are_those_that_wait(self) -> None:
        waiting = sum(map(len, self.sent.values())) - len(self.door.messages)
        assert (self.door.outbox.waiting_bytes == 0) == (waiting == 0)

    @invariant()
    def each_calls_messages_are_in_order(self) -> None:
        seen: dict[int, list[int]] = {call: [] for call in self.marks}
        for name in names(self.door):
            call, number = map(int, name.split(":"))
            seen[call].append(number)
        for call, numbers in seen.items():
            assert numbers == self.sent[call][: len(numbers)]

    def teardown(self) -> None:
        self.door.stuck = False
        self.door.outbox.resume()
        self.door.flusher.end_of_turn()
        assert len(self.door.messages) == sum(map(len, self.sent.values())), "lost or doubled"
        self.each_calls_messages_are_in_order()
        assert self.door.outbox.waiting_bytes == 0
        assert self.door.overflows == 0
        assert self.door.outbox.writable()


TestLanes = Lanes.TestCase
TestLanes.settings = fuzzing(40)
