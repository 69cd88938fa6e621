from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz.profile import fuzzing
from trunkline_protocol.codecs.jsonrpc import encode_batch, encode_result
from trunkline_protocol.hub_methods import UNNUMBERED_CALLS
from trunkline_protocol.session import (
    ACK_BYTES,
    ACK_FRAMES,
    ACK_SECONDS,
    CannotResume,
    ProtocolViolation,
    Resume,
    SessionAck,
    SessionClose,
    SessionCore,
    SessionOpen,
    SessionOpened,
    SessionSnapshot,
    batch_seq,
    encode_ack,
)

SECRET = "c2Vzc2lvbi1pZC1oZXJl"


def frame(text: str = "x") -> bytes:
    return encode_result(b"1", json.dumps(text).encode())


def with_frames(count: int) -> tuple[SessionCore, list[bytes]]:
    core = SessionCore()
    return core, [core.number(frame(str(index))) for index in range(count)]


def received(count: int, *, size: int = 10) -> SessionCore:
    core = SessionCore()
    for seq in range(1, count + 1):
        assert core.receive(seq, size)
    return core


# --- numbers ---


def test_frames_are_numbered_from_one_and_otherwise_untouched() -> None:
    _, frames = with_frames(3)
    assert [json.loads(data)["seq"] for data in frames] == [1, 2, 3]
    assert frames[0] == b'{"seq":1,"jsonrpc":"2.0","id":1,"result":"0"}'


def test_only_the_outermost_object_gets_the_number() -> None:
    numbered = SessionCore().number(b'{"params":{"text":"{"},"list":[{}]}')
    assert numbered == b'{"seq":1,"params":{"text":"{"},"list":[{}]}'


def test_a_batch_is_one_frame_and_all_its_members_carry_its_number() -> None:
    core, _ = with_frames(6)
    members = [b'{"id":1,"result":[{"a":"{"},[]]}', b'{"id":2,"result":"],["}', b'{"id":3,"result":null}']
    numbered = core.number(encode_batch(members))
    assert json.loads(numbered) == [json.loads(member) | {"seq": 7} for member in members]
    assert core.sent == 7
    assert json.loads(core.number(frame()))["seq"] == 8


def test_white_space_in_a_batch_is_no_trouble() -> None:
    assert json.loads(SessionCore().number(b'[ {"id":1} ,\n{"id":2}\t]')) == [{"id": 1, "seq": 1}, {"id": 2, "seq": 1}]


@pytest.mark.parametrize("bad", [b"", b"[]", b"[1]", b'[{"id":1},[]]', b"1", b' {"id":1}', b'[{"id":1}'])
def test_what_is_no_frame_is_not_numbered(bad: bytes) -> None:
    core, _ = with_frames(1)
    before = core.snapshot()
    with pytest.raises(ValueError):
        core.number(bad)
    assert core.snapshot() == before
    assert len(core.resume(0)) == 1


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
objects = st.dictionaries(st.text().filter(lambda name: name != "seq"), values, min_size=1, max_size=4)


@fuzzing(200)
@given(objects | st.lists(objects, min_size=1, max_size=5), st.booleans())
def test_numbering_adds_a_member_and_changes_nothing_else(message: Any, spaced: bool) -> None:
    encoded = json.dumps(message, ensure_ascii=False, separators=None if spaced else (",", ":"))
    numbered = json.loads(SessionCore().number(encoded.encode("utf-8", "surrogatepass")))
    if isinstance(message, list):
        assert numbered == [member | {"seq": 1} for member in message]
    else:
        assert numbered == message | {"seq": 1}


@pytest.mark.parametrize(
    ("numbers", "seq"), [([3, 3, 3], 3), ([None, 3, None], 3), ([None, None], None), ([], None), ([1], 1)]
)
def test_the_number_of_a_batch(numbers: list[int | None], seq: int | None) -> None:
    assert batch_seq(iter(numbers)) == seq


@pytest.mark.parametrize("numbers", [[3, 5], [5, None, 3], [4, 3, 5]])
def test_members_that_disagree_are_a_violation(numbers: list[int | None]) -> None:
    with pytest.raises(ProtocolViolation, match="3 and 5"):
        batch_seq(numbers)


# --- acknowledgements of the peer ---


def test_frames_are_kept_until_they_are_acknowledged() -> None:
    core, frames = with_frames(5)
    assert (core.unacknowledged, core.unacknowledged_bytes) == (5, sum(map(len, frames)))
    core.acknowledge(3)
    assert (core.unacknowledged, core.unacknowledged_bytes) == (2, sum(map(len, frames[3:])))
    core.acknowledge(5)
    assert (core.unacknowledged, core.unacknowledged_bytes) == (0, 0)
    assert core.resume(5) == []


@pytest.mark.parametrize("old", [3, 2, 0, -1])
def test_an_old_acknowledgement_changes_nothing(old: int) -> None:
    core, frames = with_frames(5)
    core.acknowledge(3)
    before = core.snapshot()
    core.acknowledge(old)
    assert core.snapshot() == before
    assert core.resume(3) == frames[3:]


def test_what_was_never_sent_cannot_be_acknowledged() -> None:
    core, _ = with_frames(5)
    before = core.snapshot()
    with pytest.raises(ProtocolViolation, match="frame 6 was acknowledged, but only 5 were sent"):
        core.acknowledge(6)
    assert core.snapshot() == before


# --- after a cut ---


def test_the_rest_is_sent_again_in_order_under_the_same_numbers() -> None:
    core, frames = with_frames(6)
    core.acknowledge(1)
    assert core.resume(4) == frames[4:]
    assert core.unacknowledged == 2, "they are kept: this connection may be cut, too"
    assert core.resume(4) == frames[4:]
    assert json.loads(core.number(frame()))["seq"] == 7


def test_what_is_numbered_while_there_is_no_connection_is_sent_with_the_rest() -> None:
    core, frames = with_frames(2)
    later = core.number(frame("later"))
    assert core.resume(1) == [frames[1], later]


def test_a_list_that_was_handed_out_does_not_change() -> None:
    core, frames = with_frames(2)
    again = core.resume(0)
    core.number(frame())
    core.acknowledge(1)
    assert again == frames


@pytest.mark.parametrize("claimed", [7, 2**53 - 1])
def test_a_peer_that_claims_what_was_never_sent_cannot_resume(claimed: int) -> None:
    core, _ = with_frames(6)
    before = core.snapshot()
    with pytest.raises(CannotResume, match="only 6 were sent") as refused:
        core.resume(claimed)
    assert refused.value.reason == "unknown"
    assert core.snapshot() == before


@pytest.mark.parametrize("claimed", [3, 0, -1])
def test_a_peer_that_lost_what_it_had_acknowledged_cannot_resume(claimed: int) -> None:
    core, _ = with_frames(6)
    core.acknowledge(4)
    before = core.snapshot()
    with pytest.raises(CannotResume, match="acknowledged 4 before") as refused:
        core.resume(claimed)
    assert refused.value.reason == "unknown"
    assert core.snapshot() == before


# --- what is received ---


def test_what_is_here_already_is_dropped() -> None:
    core = received(3)
    assert [core.receive(seq) for seq in (1, 3, 2, 4, 4)] == [False, False, False, True, False]
    assert core.received == 4


@pytest.mark.parametrize("seq", [5, 6, 2**53 - 1, 0, -1])
def test_a_jump_is_a_violation(seq: int) -> None:
    core = received(3)
    before = core.snapshot()
    with pytest.raises(ProtocolViolation, match=f"frame {seq} came where 4 had to come"):
        core.receive(seq)
    assert core.snapshot() == before
    assert core.ack_delay(0.0) == ACK_SECONDS, "the three before it are still to be acknowledged"


def test_the_words_of_a_violation_fit_into_a_close_frame() -> None:
    core = received(1)
    with pytest.raises(ProtocolViolation) as violation:
        core.receive(2**53 - 1)
    assert len(str(violation.value).encode()) <= 123


# --- when to acknowledge ---


def test_nothing_received_is_nothing_to_acknowledge() -> None:
    core = SessionCore()
    assert core.ack_delay(0.0) is None
    core.number(frame())
    assert core.ack_delay(1e9) is None


def test_a_few_frames_wait_for_more_but_not_for_long() -> None:
    core = received(1)
    assert core.ack_delay(100.0) == pytest.approx(ACK_SECONDS)
    core.receive(2)
    assert core.ack_delay(100.15) == pytest.approx(ACK_SECONDS - 0.15), "the first one counts, not the last"
    assert core.ack_delay(100.0 + ACK_SECONDS) == 0.0
    assert core.ack_delay(200.0) == 0.0, "as long as it is not sent"
    assert core.take_ack() == 2
    assert core.ack_delay(200.0) is None


def test_the_next_wait_begins_anew() -> None:
    core = received(1)
    core.ack_delay(0.0)
    core.take_ack()
    core.receive(2)
    assert core.ack_delay(50.0) == pytest.approx(ACK_SECONDS)


def test_many_frames_are_acknowledged_at_once() -> None:
    assert received(ACK_FRAMES - 1).ack_delay(0.0) == ACK_SECONDS
    core = received(ACK_FRAMES)
    assert core.ack_delay(0.0) == 0.0
    assert core.take_ack() == ACK_FRAMES
    core.receive(ACK_FRAMES + 1)
    assert core.ack_delay(0.0) == ACK_SECONDS


def test_many_bytes_are_acknowledged_at_once() -> None:
    assert received(1, size=ACK_BYTES - 1).ack_delay(0.0) == ACK_SECONDS
    core = received(2, size=ACK_BYTES // 2)
    assert core.ack_delay(0.0) == 0.0
    core.take_ack()
    core.receive(3, ACK_BYTES - 1)
    assert core.ack_delay(0.0) == ACK_SECONDS


def test_a_frame_that_came_again_is_acknowledged_again() -> None:
    core = received(2)
    core.take_ack()
    assert not core.receive(1)
    assert core.ack_delay(0.0) == ACK_SECONDS
    assert core.take_ack() == 2


def test_the_snapshot_tells_all_counts() -> None:
    core = received(3)
    sizes = [len(core.number(frame(text))) for text in ("a", "bc")]
    assert core.take_ack() == 3
    core.receive(4)
    core.acknowledge(1)
    assert core.snapshot() == SessionSnapshot(sent=2, acknowledged=1, received=4, told=3, unacknowledged_bytes=sizes[1])
    with pytest.raises(AttributeError):
        core.snapshot().sent = 5  # type: ignore[misc]


# --- messages ---


def test_open_with_and_without_a_session_to_resume() -> None:
    assert msgspec.json.decode(b"{}", type=SessionOpen) == SessionOpen()
    params = b'{"resume":{"session":"%b","received":7}}' % SECRET.encode()
    assert msgspec.json.decode(params, type=SessionOpen) == SessionOpen(Resume(SECRET, 7))


@pytest.mark.parametrize(
    ("params", "where"),
    [
        (b'{"resume":{"session":"a","received":-1}}', "resume.received"),
        (b'{"resume":{"session":"a","received":9007199254740992}}', "resume.received"),
        (b'{"resume":{"session":"a","received":true}}', "resume.received"),
        (b'{"resume":{"session":"a"}}', "received"),
        (b'{"resume":{"session":7,"received":1}}', "resume.session"),
        (b'{"resume":{"session":"%b","received":1}}' % (b"a" * 65), "resume.session"),
        (b'{"resume":"a"}', "resume"),
        (b'{"ttl_ms":1}', "ttl_ms"),
        (b"[]", "object"),
    ],
)
def test_params_that_do_not_fit_name_what_is_wrong(params: bytes, where: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=where):
        msgspec.json.decode(params, type=SessionOpen)


def test_results_say_why_only_where_there_is_a_reason() -> None:
    opened = SessionOpened(SECRET, resumed=False, received=0, ttl_ms=60_000)
    assert json.loads(msgspec.json.encode(opened)) == {
        "session": SECRET, "resumed": False, "received": 0, "ttl_ms": 60_000,
    }  # fmt: skip
    refused = SessionOpened(SECRET, resumed=False, received=0, ttl_ms=60_000, reason="expired")
    encoded = msgspec.json.encode(refused)
    assert json.loads(encoded)["reason"] == "expired"
    assert msgspec.json.decode(encoded, type=SessionOpened) == refused


@pytest.mark.parametrize(
    "message",
    [
        SessionOpen(Resume(SECRET, 3)),
        SessionOpened(SECRET, resumed=True, received=3, ttl_ms=1),
    ],
)
def test_ids_do_not_slip_into_logs(message: object) -> None:
    assert SECRET not in repr(message)
    assert "received=3" in repr(message)


def test_acknowledgements_on_the_wire() -> None:
    message = json.loads(encode_ack(41))
    assert message == {"jsonrpc": "2.0", "method": "session.ack", "params": {"received": 41}}
    assert msgspec.convert(message["params"], SessionAck) == SessionAck(41)
    with pytest.raises(msgspec.ValidationError, match="received"):
        msgspec.json.decode(b'{"received":"41"}', type=SessionAck)


def test_close_has_no_params() -> None:
    assert msgspec.json.decode(b"{}", type=SessionClose) == SessionClose()
    with pytest.raises(msgspec.ValidationError, match="session"):
        msgspec.json.decode(b'{"session":"a"}', type=SessionClose)


def test_what_is_about_one_connection_is_not_numbered() -> None:
    assert {"session.open", "auth", "subscribe", "unsubscribe", "rpc.ping"} <= UNNUMBERED_CALLS
    for numbered in ("publish", "method.register", "$/cancelRequest", "stream.push", "stream_chunk", "$/progress"):
        assert numbered not in UNNUMBERED_CALLS


# --- what the peer does not take ---


def test_a_frame_is_substituted_under_its_number() -> None:
    core = SessionCore()
    for frame in (b'{"n":1}', b'{"n":2}', b'{"n":3,"large":"xxxxxxxxxxxxxxxxxxxxx"}', b'{"n":4}'):
        core.number(frame)
    core.acknowledge(1)
    large = core.largest()
    assert b"large" in large
    core.substitute(large, b'{"n":0}')
    assert core.resume(1) == [b'{"seq":2,"n":2}', b'{"seq":3,"n":0}', b'{"seq":4,"n":4}']
    assert core.unacknowledged_bytes == sum(map(len, core.resume(1)))
    assert core.number(b'{"n":5}') == b'{"seq":5,"n":5}'


def test_where_nothing_is_kept_nothing_is_the_largest() -> None:
    assert SessionCore().largest() == b""
