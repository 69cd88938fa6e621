"""What Trunkline relies on in picows beyond its public interface: WSProtocol's constructor, its buffer, its logger."""

from __future__ import annotations

import asyncio
import importlib.metadata
import itertools
import socket
import tomllib
from pathlib import Path
from typing import Any

import pytest
from picows import WSListener, WSMsgType, WSUpgradeResponse, WSUpgradeResponseWithListener

from tests.support.frames import CLOSE, TEXT, close_payload, frame
from tests.support.timing import PATIENCE, until
from trunkline.edge.transport import FramingErrors, LingeringTransport, feed, picows_protocol
from trunkline.edge.websocket.listener import text_header

REQUEST = (
    b"GET /ws?x=1 HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\nX-Mine: yes\r\n\r\n"
)


class Recorder(WSListener):
    def __init__(self) -> None:
        self.frames: list[tuple[Any, bytes, bool]] = []
        self.connected = asyncio.Event()
        self.gone = asyncio.Event()

    def on_ws_connected(self, transport: Any) -> None:
        self.transport = transport
        self.connected.set()

    def on_ws_frame(self, transport: Any, frame: Any) -> None:
        self.frames.append((frame.msg_type, frame.get_payload_as_bytes(), bool(frame.fin)))
        transport.send(WSMsgType.TEXT, b"answer")

    def on_ws_disconnected(self, transport: Any) -> None:
        self.gone.set()


def tcp_pair() -> tuple[socket.socket, socket.socket]:
    """Two ends of a TCP connection; picows sets TCP options."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours = socket.create_connection(listener.getsockname())
        theirs, _ = listener.accept()
    for end in (ours, theirs):
        end.setblocking(False)
    return ours, theirs


def test_the_version_is_the_one_this_was_made_for() -> None:
    assert importlib.metadata.version("picows").startswith("2.3.")
    project = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())
    assert "picows~=2.3.1" in project["project"]["dependencies"]


@pytest.mark.parametrize("step", [1, 7, 10_000])
async def test_it_can_be_fed_by_hand_and_take_over_a_transport(step: int) -> None:
    """As the door does it: the request comes through ``feed``, frames straight from the socket."""
    ours, theirs = tcp_pair()
    loop, listener, seen = asyncio.get_running_loop(), Recorder(), []

    def accept(request: Any) -> Any:
        seen.append((request.path, request.headers["X-Mine"]))
        return WSUpgradeResponseWithListener(WSUpgradeResponse.create_101_response(), listener)

    protocol = picows_protocol(accept, 1000, FramingErrors(lambda code, reason: None))
    transport, _ = await loop.create_connection(asyncio.Protocol, sock=theirs)
    protocol.connection_made(transport)
    for at in range(0, len(REQUEST), step):
        feed(protocol, REQUEST[at : at + step])
    transport.set_protocol(protocol)
    async with asyncio.timeout(PATIENCE):
        await listener.connected.wait()
        answer = await loop.sock_recv(ours, 4096)
        assert answer.startswith(b"HTTP/1.1 101")
        assert b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in answer
        await loop.sock_sendall(ours, frame(TEXT, b"hello"))
        assert await loop.sock_recv(ours, 100) == text_header(6) + b"answer"
        ours.close()
        await listener.gone.wait()
    assert seen == [(b"/ws?x=1", "yes")]
    assert listener.frames == [(WSMsgType.TEXT, b"hello", True)]
    transport.close()


class Served:
    """picows in charge of one end of a connection, upgraded; the other end is the test's."""

    def __init__(self, listener: Recorder, log: Any, on_closing: Any = lambda: None) -> None:
        self.peer, self._theirs = tcp_pair()
        self.picows = picows_protocol(
            lambda _request: WSUpgradeResponseWithListener(WSUpgradeResponse.create_101_response(), listener), 1000, log
        )
        self._on_closing = on_closing

    async def __aenter__(self) -> Served:
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_connection(asyncio.Protocol, sock=self._theirs)
        self.transport = LingeringTransport(transport, self.picows, self._on_closing)
        self.picows.connection_made(self.transport)
        feed(self.picows, REQUEST)
        self.transport.take_over()
        assert (await self.read()).startswith(b"HTTP/1.1 101")
        return self

    async def __aexit__(self, *_error: Any) -> None:
        self.peer.close()
        self.transport.abort()
        await asyncio.sleep(0)  # a turn of the loop, in which it is closed

    async def read(self) -> bytes:
        async with asyncio.timeout(PATIENCE):
            return await asyncio.get_running_loop().sock_recv(self.peer, 4096)

    async def write(self, data: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self.peer, data)


REFUSED = {
    "reserved opcode": (frame(3), 1002),
    "unmasked": (frame(TEXT, b"x", mask=False), 1002),
    "too large": (frame(TEXT, b"x" * 1001), 1009),
    "length in too many bytes": (b"\x81\xfe\x00\x01mask-", 1002),
    "close with an invalid code": (frame(CLOSE, close_payload(999)), 1002),
    "close with a reason that is not UTF-8": (frame(CLOSE, close_payload(1000, b"\xff")), 1007),
    "second close": (frame(CLOSE, close_payload(1000)) * 2, 1002),
}  # fmt: skip


@pytest.mark.parametrize(("data", "code"), REFUSED.values(), ids=REFUSED)
async def test_its_logger_hears_of_refused_frames_ahead_of_its_close_frame(data: bytes, code: int) -> None:
    """So whatever close frame is sent in there is the only one."""
    listener, refused = Recorder(), []

    def on_refused(found: int, reason: str) -> None:
        assert reason
        refused.append(found)
        listener.transport.send_close(4321)

    async with Served(listener, FramingErrors(on_refused)) as served:
        await served.write(data)
        assert await served.read() == frame(CLOSE, close_payload(4321), mask=False)
        assert refused == [code]


async def test_it_closes_the_transport_it_was_given_after_it_refused_a_frame() -> None:
    closing: list[str] = []
    listener = Recorder()
    async with Served(
        listener, FramingErrors(lambda _code, _reason: None), lambda: closing.append("closing")
    ) as served:
        await served.write(frame(3))
        assert (await served.read())[2:4] == b"\x03\xea"
        assert await served.read() == b"", "the stream does not end"
        assert closing == ["closing"]
        assert not listener.gone.is_set(), "nobody drains what the peer still sends"
        served.peer.close()
        await asyncio.wait_for(listener.gone.wait(), PATIENCE)


@pytest.mark.parametrize(
    ("payload", "code"),
    [(close_payload(3456), 3456), (close_payload(5000), 5000), (close_payload(0), 0), (b"", 0)],
    ids=["3456", "5000", "0", "none"],
)
async def test_a_close_frame_of_the_peer_is_known_ahead_of_its_delivery(payload: bytes, code: int) -> None:
    """The door relies on it where something follows the close frame that picows refuses. 0 is not told from none."""
    listener, seen = Recorder(), []

    def on_refused(_code: int, _reason: str) -> None:
        seen.append((listener.transport.close_handshake.recv.code, [kind for kind, _, _ in listener.frames]))

    async with Served(listener, FramingErrors(on_refused)) as served:
        await served.write(frame(CLOSE, payload) + frame(3))
        await served.read()
        assert seen == [(code, [])]
        assert [kind for kind, _, _ in listener.frames] == [WSMsgType.CLOSE]


async def test_its_buffer_shows_the_part_of_a_frame_that_has_come() -> None:
    """The heartbeat's only way to know of bytes that are not a frame yet."""
    listener = Recorder()
    async with Served(listener, FramingErrors(lambda _code, _reason: None)) as served:
        room = [len(served.picows.get_buffer(-1))]
        data = frame(TEXT, b"x" * 200)
        for part in (data[:1], data[1:50], data[50:51]):
            await served.write(part)
            await until(lambda: len(served.picows.get_buffer(-1)) != room[-1], "it was read")
            room.append(len(served.picows.get_buffer(-1)))
        assert [before - after for before, after in itertools.pairwise(room)] == [1, 49, 1]
        await served.write(data[51:])
        await served.read()
        assert len(served.picows.get_buffer(-1)) == room[0]


async def test_what_a_listener_raises_is_logged_and_closes_with_1011(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(Recorder):
        def on_ws_frame(self, transport: Any, frame: Any) -> None:
            raise ZeroDivisionError("a bug in the hub")

    async with Served(Broken(), FramingErrors(lambda _code, _reason: None)) as served:
        await served.write(frame(TEXT, b"x"))
        assert (await served.read())[2:4] == (1011).to_bytes(2, "big")
    assert "a bug in the hub" in caplog.text


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65_535, 65_536, 1 << 20])
def test_our_frame_header_is_the_rfcs(size: int) -> None:
    reference = frame(TEXT, b"x" * size, mask=False)
    assert text_header(size) + b"x" * size == reference
