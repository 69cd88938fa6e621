"""The framing rules of RFC 6455 at the real door."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import pytest

from tests.edge.conftest import LIMIT
from tests.support.frames import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    RawSocket,
    close_payload,
    frame,
    raw_socket,
)
from tests.support.hub import RunningHub

ECHO = b'{"jsonrpc":"2.0","id":1,"method":"debug.echo","params":{"value":"\xc3\xbc"}}'
PING_CALL = b'{"jsonrpc":"2.0","id":1,"method":"rpc.ping"}'


@pytest.fixture
async def socket(debug_hub: RunningHub) -> AsyncIterator[RawSocket]:
    async with raw_socket(debug_hub.port) as connected:
        yield connected


async def requires_close(socket: RawSocket, code: int) -> None:
    """The hub says why, and ends the connection once we agree."""
    while (got := await socket.frame()).opcode != CLOSE:
        pass
    assert got.close_code == code, got
    got.payload[2:].decode()
    assert len(got.payload) <= 125
    try:
        await socket.write(frame(CLOSE, close_payload(code)))
        assert await socket.ended()
    except ConnectionError:
        pass


async def requires_reply(socket: RawSocket) -> None:
    got = await socket.frame()
    assert got.opcode == TEXT
    assert got.fin
    assert "result" in json.loads(got.payload)


VIOLATIONS = {
    "RSV1": (frame(TEXT, ECHO, rsv=4), 1002),
    "RSV2": (frame(TEXT, ECHO, rsv=2), 1002),
    "RSV3": (frame(TEXT, ECHO, rsv=1), 1002),
    "RSV1 on a ping": (frame(PING, b"", rsv=4), 1002),
    "RSV1 on a continuation": (frame(TEXT, b"{", fin=False) + frame(CONTINUATION, b"}", rsv=4), 1002),
    "unmasked text": (frame(TEXT, ECHO, mask=False), 1002),
    "unmasked ping": (frame(PING, b"x", mask=False), 1002),
    "reserved opcode 3": (frame(3, b"x"), 1002),
    "reserved opcode 7": (frame(7), 1002),
    "reserved control opcode 11": (frame(11), 1002),
    "fragmented ping": (frame(PING, b"x", fin=False), 1002),
    "ping of 126 bytes": (frame(PING, b"x" * 126), 1002),
    "continuation of nothing": (frame(CONTINUATION, b"x"), 1002),
    "text inside a message": (frame(TEXT, b"{", fin=False) + frame(TEXT, b"}"), 1002),
    "text fragment inside a message": (frame(TEXT, b"{", fin=False) + frame(TEXT, b"}", fin=False), 1002),
    "binary": (frame(BINARY, ECHO), 1003),
    "binary fragment": (frame(BINARY, ECHO, fin=False), 1003),
    "binary inside a text message": (frame(TEXT, b"{", fin=False) + frame(BINARY, b"}"), 1003),
    "invalid UTF-8": (frame(TEXT, b'"\xff"'), 1007),
    "invalid UTF-8 in a later fragment": (frame(TEXT, b'"', fin=False) + frame(CONTINUATION, b"\xff", fin=False), 1007),
    "a character cut off at the end": (frame(TEXT, b'"\xe2', fin=False) + frame(CONTINUATION, b"\x82"), 1007),
    "close with one byte": (frame(CLOSE, b"\x03"), 1002),
    "close with a code nobody may send": (frame(CLOSE, close_payload(1005)), 1002),
    "close with a code below 1000": (frame(CLOSE, close_payload(999)), 1002),
    "close with a reserved code": (frame(CLOSE, close_payload(1016)), 1002),
    "close with a reason that is not UTF-8": (frame(CLOSE, close_payload(1000, b"\xff")), 1007),
}  # fmt: skip


@pytest.mark.parametrize(("data", "code"), VIOLATIONS.values(), ids=VIOLATIONS)
async def test_violations_are_closed_with_their_code(socket: RawSocket, data: bytes, code: int) -> None:
    await socket.write(data)
    await requires_close(socket, code)


async def test_a_violation_hurts_nobody_else(debug_hub: RunningHub) -> None:
    async with raw_socket(debug_hub.port) as bystander:
        for data, code in list(VIOLATIONS.values())[:3]:
            async with raw_socket(debug_hub.port) as bad:
                await bad.write(data)
                await requires_close(bad, code)
            await bystander.write(frame(TEXT, ECHO))
            await requires_reply(bystander)


async def test_nothing_after_a_violation_is_executed(socket: RawSocket) -> None:
    await socket.write(frame(BINARY, b"x") + frame(TEXT, PING_CALL))
    assert (await socket.frame()).close_code == 1003


@pytest.mark.parametrize("payload", [b"", b"hello", b"x" * 125, bytes(range(125))])
async def test_a_ping_is_answered_with_its_payload(socket: RawSocket, payload: bytes) -> None:
    await socket.write(frame(PING, payload))
    got = await socket.frame()
    assert (got.opcode, got.payload) == (PONG, payload)


async def test_a_ping_between_fragments(socket: RawSocket) -> None:
    await socket.write(frame(TEXT, ECHO[:10], fin=False))
    await socket.write(frame(PING, b"p"))
    assert (await socket.frame()).payload == b"p"
    await socket.write(frame(CONTINUATION, ECHO[10:]))
    await requires_reply(socket)


async def test_an_unasked_pong_is_ignored(socket: RawSocket) -> None:
    await socket.write(frame(PONG, b"x") + frame(TEXT, ECHO))
    await requires_reply(socket)


async def test_one_byte_at_a_time(socket: RawSocket) -> None:
    for byte in frame(TEXT, ECHO):
        await socket.write(bytes([byte]))
        await asyncio.sleep(0)  # a turn of the loop, in which it is sent
    await requires_reply(socket)


async def test_a_character_split_between_fragments(socket: RawSocket) -> None:
    at = ECHO.index(b"\xc3") + 1
    await socket.write(frame(TEXT, ECHO[:at], fin=False) + frame(CONTINUATION, ECHO[at:]))
    assert json.loads((await socket.frame()).payload)["result"] == "ü"


async def test_fragments_of_one_byte_each(socket: RawSocket) -> None:
    parts = [ECHO[i : i + 1] for i in range(len(ECHO))]
    data = frame(TEXT, parts[0], fin=False)
    data += b"".join(frame(CONTINUATION, part, fin=False) for part in parts[1:-1])
    await socket.write(data + frame(CONTINUATION, parts[-1]))
    await requires_reply(socket)


async def test_many_messages_in_one_segment(socket: RawSocket) -> None:
    calls = [b'{"jsonrpc":"2.0","id":%d,"method":"rpc.ping"}' % number for number in range(500)]
    await socket.write(b"".join(frame(TEXT, call) for call in calls))
    assert [json.loads((await socket.frame()).payload)["id"] for _ in calls] == list(range(500))


async def test_a_frame_header_split_from_its_payload(socket: RawSocket) -> None:
    data = frame(TEXT, ECHO + b" " * 70_000)
    for start, end in ((0, 1), (1, 5), (5, 14), (14, len(data))):
        await socket.write(data[start:end])
        await asyncio.sleep(0.01)  # so that each part may be a segment of its own; memory_door shows that they are
    await requires_reply(socket)


@pytest.mark.parametrize("code", [1000, 1001, 1011, 3000, 4999])
async def test_the_peer_closes(socket: RawSocket, code: int) -> None:
    await socket.write(frame(CLOSE, close_payload(code, b"bye")))
    got = await socket.frame()
    assert got.close_code == code
    assert await socket.ended()


async def test_the_peer_closes_without_a_code(socket: RawSocket) -> None:
    await socket.write(frame(CLOSE))
    got = await socket.frame()
    assert got.opcode == CLOSE
    assert got.payload in (b"", close_payload(1000))
    assert await socket.ended()


async def test_what_was_asked_ahead_of_a_close_is_answered(socket: RawSocket) -> None:
    await socket.write(frame(TEXT, PING_CALL) + frame(CLOSE, close_payload(1000)))
    await requires_reply(socket)
    assert (await socket.frame()).close_code == 1000


async def test_frames_after_our_close_frame_are_ignored(socket: RawSocket) -> None:
    await socket.write(frame(CLOSE, close_payload(1000)) + frame(TEXT, PING_CALL))
    assert (await socket.frame()).opcode == CLOSE
    assert await socket.ended()


async def test_the_largest_message_goes_through(patient_hub: RunningHub) -> None:
    async with raw_socket(patient_hub.port) as socket:
        await socket.write(frame(TEXT, ECHO + b" " * (LIMIT - len(ECHO))))
        await requires_reply(socket)


@pytest.mark.parametrize("pieces", [1, 7])
async def test_a_larger_message_is_1009(patient_hub: RunningHub, pieces: int) -> None:
    size = LIMIT + 1
    async with raw_socket(patient_hub.port) as socket:
        if pieces == 1:
            await socket.write(frame(TEXT, b" " * size))
        else:
            part = b" " * (size // pieces + 1)
            await socket.write(frame(TEXT, part, fin=False) + frame(CONTINUATION, part, fin=False) * (pieces - 1))
        await requires_close(socket, 1009)


async def test_an_announced_giant_is_refused_before_it_is_sent(patient_hub: RunningHub) -> None:
    before = patient_hub.rss()
    async with raw_socket(patient_hub.port) as socket:
        await socket.write(b"\x81\xff" + (1 << 40).to_bytes(8, "big") + b"mask")
        await requires_close(socket, 1009)
    assert patient_hub.rss() - before < 4 * 2**20


async def test_a_length_with_its_highest_bit_set(patient_hub: RunningHub) -> None:
    async with raw_socket(patient_hub.port) as socket:
        await socket.write(b"\x81\xff" + (1 << 63).to_bytes(8, "big") + b"mask")
        got = await socket.frame()
        assert got.close_code in (1002, 1009)
