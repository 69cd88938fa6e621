"""The close handshake of RFC 6455 (5.5.1, 7), begun by either side, at the real door."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest

from tests.edge.conftest import IMPATIENCE, PATIENT
from tests.support.frames import (
    CLOSE,
    CONTINUATION,
    PING,
    TEXT,
    Frame,
    RawSocket,
    close_payload,
    frame,
    raw_socket,
)
from tests.support.hub import RunningHub, ready_hub
from tests.support.peer import Peer, peer
from tests.support.timing import PATIENCE, TIMER_GRAIN, until
from trunkline.edge.fragments import is_sendable

PING_CALL = b'{"jsonrpc":"2.0","id":1,"method":"rpc.ping"}'
SENDABLE = [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999]
NOT_SENDABLE = [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535]


@pytest.fixture
async def socket(patient_hub: RunningHub) -> AsyncIterator[RawSocket]:
    async with raw_socket(patient_hub.port) as connected:
        yield connected


@pytest.fixture
async def cut_socket(impatient_hub: RunningHub) -> AsyncIterator[RawSocket]:
    """Of a peer that the hub does not wait long for."""
    async with raw_socket(impatient_hub.port) as connected:
        yield connected


async def rest(socket: RawSocket) -> list[Frame]:
    """Everything the hub still sends until it ends the TCP connection: sooner than it has to wait for anybody."""
    frames = []
    with suppress(asyncio.IncompleteReadError, ConnectionResetError):
        while True:
            frames.append(await socket.frame())
    return frames


def test_every_code_is_either_sendable_or_not() -> None:
    assert [code for code in range(65536) if is_sendable(code)] == sorted({*SENDABLE, *range(3000, 5000)})


@pytest.mark.parametrize("reason", [b"", b"bye", "tschüß".encode(), b"x" * 123], ids=["none", "short", "utf8", "123"])
@pytest.mark.parametrize("code", SENDABLE)
async def test_the_peer_closes_and_its_code_is_echoed(socket: RawSocket, code: int, reason: bytes) -> None:
    await socket.write(frame(CLOSE, close_payload(code, reason)))
    assert [each.close_code for each in await rest(socket)] == [code]


@pytest.mark.parametrize("code", NOT_SENDABLE)
async def test_a_code_nobody_may_send_is_1002(socket: RawSocket, code: int) -> None:
    await socket.write(frame(CLOSE, close_payload(code)))
    assert [each.close_code for each in await rest(socket)] == [1002]


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (frame(CLOSE, b"\x03"), 1002),
        (frame(CLOSE, close_payload(1000, b"\xff")), 1007),
        (frame(CLOSE, close_payload(1000, b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80")), 1007),
        (frame(CLOSE, close_payload(1000, b"\xe2\x82")), 1007),
        (frame(CLOSE, close_payload(1000, b"x" * 124)), 1002),
        (frame(CLOSE, close_payload(1000), fin=False), 1002),
        (frame(CLOSE, close_payload(1000), rsv=4), 1002),
        (frame(CLOSE, close_payload(1000), mask=False), 1002),
    ],
    ids=["one byte", "no UTF-8", "a surrogate", "half a character", "126 bytes", "no FIN", "RSV1", "unmasked"],
)
async def test_a_malformed_close_frame(socket: RawSocket, data: bytes, code: int) -> None:
    await socket.write(data)
    got = await socket.frame()
    assert got.close_code == code
    await socket.write(frame(CLOSE, close_payload(code)))
    assert await socket.ended()


@pytest.mark.parametrize(
    "after",
    [
        frame(TEXT, PING_CALL),
        frame(PING, b"late"),
        frame(CLOSE, close_payload(1000)),
        frame(CLOSE, close_payload(999)),
        frame(CLOSE),
        frame(3, b"reserved opcode"),
        frame(TEXT, b"\xff"),
        b"\xff" * 1000,
    ],
    ids=["call", "ping", "close", "bad close", "empty close", "reserved", "no UTF-8", "garbage"],
)
@pytest.mark.parametrize("segments", [1, 2])
async def test_whatever_follows_the_peers_close_is_ignored(socket: RawSocket, after: bytes, segments: int) -> None:
    goodbye = frame(CLOSE, close_payload(3456))
    if segments == 1:
        await socket.write(goodbye + after)
    else:
        await socket.write(goodbye)
        await socket.write(after)
    assert [each.close_code for each in await rest(socket)] == [3456]


async def test_a_close_inside_a_fragmented_message(socket: RawSocket) -> None:
    await socket.write(frame(TEXT, PING_CALL[:9], fin=False) + frame(CLOSE, close_payload(1000)))
    await socket.write(frame(CONTINUATION, PING_CALL[9:]))
    assert [each.close_code for each in await rest(socket)] == [1000]


@pytest.mark.parametrize(
    "goodbye",
    [frame(CLOSE, close_payload(1000)), frame(TEXT, b"\xff"), frame(3)],
    ids=["close", "no UTF-8", "reserved opcode"],
)
async def test_calls_in_flight_end_at_once_however_long_the_peer_stays(patient_hub: RunningHub, goodbye: bytes) -> None:
    async with peer(patient_hub.url) as witness, raw_socket(patient_hub.port) as socket:
        before = await active_calls(witness)
        await socket.write(frame(TEXT, b'{"jsonrpc":"2.0","id":1,"method":"debug.sleep","params":{"seconds":60}}'))
        await until_active(witness, before + 1)
        await socket.write(goodbye)  # and the TCP connection stays open
        await until_active(witness, before)


async def active_calls(witness: Peer) -> int:
    return int((await witness.result("health.check"))["active_requests"])


async def until_active(witness: Peer, count: int) -> None:
    async def is_so() -> bool:
        return await active_calls(witness) == count

    await until(is_so, f"{count} calls are in flight")


async def test_the_hub_closes_and_ends_as_soon_as_the_peer_answers() -> None:
    with ready_hub(constants=PATIENT) as hub:
        async with raw_socket(hub.port) as socket:
            hub.process.terminate()
            assert (await socket.frame()).close_code == 1012
            await socket.write(frame(CLOSE, close_payload(1012)))
            assert await socket.ended()
        await asyncio.to_thread(hub.wait_ended, 0)


async def test_calls_after_the_hubs_close_are_not_executed(socket: RawSocket) -> None:
    await socket.write(frame(TEXT, b"\xff"))
    assert (await socket.frame()).close_code == 1007
    await socket.write(frame(TEXT, PING_CALL) + frame(PING, b"x") + frame(CLOSE, close_payload(1007)))
    assert await rest(socket) == []


@pytest.mark.parametrize("violation", [frame(TEXT, b"\xff"), frame(3)], ids=["found by us", "found by picows"])
async def test_a_peer_that_does_not_answer_our_close_is_cut_off(cut_socket: RawSocket, violation: bytes) -> None:
    await cut_socket.write(violation)
    assert (await cut_socket.frame()).opcode == CLOSE
    assert await cut_socket.ended(IMPATIENCE + PATIENCE)


async def test_a_peer_that_goes_on_sending_after_our_close_is_cut_off(cut_socket: RawSocket) -> None:
    started = time.monotonic()
    await cut_socket.write(frame(3))
    assert (await cut_socket.frame()).close_code == 1002
    await cut_socket.write_until_cut(b"x" * 1000, IMPATIENCE + PATIENCE)
    waited = time.monotonic() - started
    assert waited >= IMPATIENCE - TIMER_GRAIN, "its answer may be behind what it is sending"


@pytest.mark.parametrize(
    ("violation", "answered"), [(frame(TEXT, b"\xff"), [1, 2]), (frame(3), [1])], ids=["found by us", "by picows"]
)
async def test_what_was_asked_ahead_of_a_violation_is_answered_ahead_of_the_close(
    socket: RawSocket, violation: bytes, answered: list[int]
) -> None:
    """picows looks one frame ahead: the one right before its finding comes too late, and is not executed."""
    calls = [b'{"jsonrpc":"2.0","id":%d,"method":"rpc.ping"}' % number for number in (1, 2)]
    await socket.write(b"".join(frame(TEXT, call) for call in calls) + violation)
    *replies, goodbye = [await socket.frame() for _ in range(len(answered) + 1)]
    assert [json.loads(reply.payload)["id"] for reply in replies] == answered
    assert goodbye.opcode == CLOSE
