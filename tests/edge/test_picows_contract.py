"""What Trunkline relies on in picows beyond its public interface: WSProtocol's constructor and its buffer calls."""

from __future__ import annotations

import asyncio
import importlib.metadata
import socket
import tomllib
from pathlib import Path
from typing import Any

import pytest
from picows import WSListener, WSMsgType, WSUpgradeResponse, WSUpgradeResponseWithListener

from tests.support.frames import TEXT, frame
from tests.support.timing import PATIENCE
from trunkline.edge.websocket import feed, picows_protocol, text_header

REQUEST = (
    b"GET /ws?x=1 HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\nX-Mine: yes\r\n\r\n"
)


class Recorder(WSListener):  # type: ignore[misc]
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
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
    assert "picows~=2.3.1" in project["project"]["dependencies"]


@pytest.mark.parametrize("step", [1, 7, 10_000])
async def test_it_can_be_fed_by_hand_and_take_over_a_transport(step: int) -> None:
    """As the door does it: the request comes through ``feed``, frames straight from the socket."""
    ours, theirs = tcp_pair()
    loop, listener, seen = asyncio.get_running_loop(), Recorder(), []

    def accept(request: Any) -> Any:
        seen.append((request.path, request.headers["X-Mine"]))
        return WSUpgradeResponseWithListener(WSUpgradeResponse.create_101_response(), listener)

    protocol = picows_protocol(accept, 1000)
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


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65_535, 65_536, 1 << 20])
def test_our_frame_header_is_the_rfcs(size: int) -> None:
    reference = frame(TEXT, b"x" * size, mask=False)
    assert text_header(size) + b"x" * size == reference
