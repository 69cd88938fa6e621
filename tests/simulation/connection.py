"""A WebSocket without a socket: at one end the client's link, at the other what a listener gets from picows."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from picows import WSMsgType
from typing_extensions import override

from tests.fuzz.memory_door import server_frames
from tests.simulation.loop import Process
from tests.simulation.network import CLOSE, PING, PONG, TEXT, Message, Trace, Way
from trunkline.client.connection_state import ABNORMAL, CloseInfo
from trunkline.client.link import CLOSE_SECONDS, Link, LinkEnded

if TYPE_CHECKING:
    from trunkline.edge.websocket.listener import WebSocketListener

HIGH_WATER: Final = 2048
"""Bytes on their way above which nothing more is to be written: little, so that it happens."""

LOW_WATER: Final = 512
"""Bytes on their way below which it goes on."""

RESET: Final = "the connection was reset"


class Frame:
    """A whole frame of a client, as picows hands it to a listener."""

    __slots__ = ("msg_type", "payload")

    fin = True
    rsv1 = rsv2 = rsv3 = False

    def __init__(self, message: Message) -> None:
        self.msg_type = WSMsgType(message.opcode)
        self.payload = message.payload

    def get_payload_as_bytes(self) -> bytes:
        return self.payload


class Connection:
    """One connection, from its opening to the moment when both ends know that it is over.

    Args:
        name: of the client, and how many connections it had before.
        client, hub: the processes at its ends.
        listener: the hub's.
        ended: called once when the connection is over for both.
    """

    def __init__(
        self,
        trace: Trace,
        name: str,
        dice: random.Random,
        ends: tuple[Process, Process],
        listener: WebSocketListener,
        ended: Callable[[Connection], None],
    ) -> None:
        self.name = name
        self.client, self.hub = ends
        self.link = SimulatedLink(self)
        self.socket = ServerSocket(self, listener)
        self.to_hub = Way(trace, f"{name} >", dice, (self.client, self.hub), self.socket.arrived, self.link.relieved)
        self.to_client = Way(trace, f"{name} <", dice, ends[::-1], self.link.arrived, self.socket.relieved)
        self._dice = dice
        self._trace = trace
        self._ended = ended
        self._open = 2

    def half_closed(self) -> None:
        """One end is done with it."""
        self._open -= 1
        if not self._open:
            self._ended(self)

    def reset(self, within: float = 0.01) -> None:
        """Cut both ways; each end hears of it some time later."""
        loop = asyncio.get_running_loop()
        self._trace.note(f"{self.name} x")
        for way, end, process in (
            (self.to_hub, self.socket.lost, self.hub), (self.to_client, self.link.lost, self.client),
        ):  # fmt: skip
            way.cut()
            loop.call_later(within * self._dice.random(), process.soon, end, context=process.context)

    @property
    def is_open(self) -> bool:
        """Whether the client may still use it."""
        return not self.link.is_over and not self.to_hub.is_cut


class ServerSocket:
    """What a :class:`WebSocketListener` knows: picows' transport, the socket under it, and the pace of reading."""

    close_handshake = None

    def __init__(self, connection: Connection, listener: WebSocketListener) -> None:
        self.underlying_transport = self
        self.reading = self
        self.received = 0
        self._connection = connection
        self._listener = listener
        self._is_full = False
        self._is_over = False
        self._is_told = False

    def open(self) -> None:
        """Give the connection to the hub."""
        self._listener.on_ws_connected(self)  # type: ignore[arg-type]  # a transport by shape

    # --- what the hub does ---

    def send(self, kind: WSMsgType, payload: bytes) -> None:
        self._send(Message(kind.value, bytes(payload)))

    def write(self, data: bytes) -> None:
        for opcode, payload in server_frames(data):
            self._send(Message(opcode, payload))

    def send_ping(self) -> None:
        self._send(Message(PING, b""))

    def send_pong(self, payload: bytes) -> None:
        self._send(Message(PONG, payload))

    def send_close(self, code: int, reason: bytes) -> None:
        self._send(Message(CLOSE, int(code).to_bytes(2, "big") + reason))

    def _send(self, message: Message) -> None:
        way = self._connection.to_client
        if self._is_over:
            return
        way.write(message)
        if not self._is_full and way.bytes > HIGH_WATER:
            self._is_full = True
            self._listener.pause_writing()

    def disconnect(self, is_graceful: bool = True) -> None:
        if not self._is_over:
            self._is_over = True
            if is_graceful:
                self._connection.to_client.write(Message(CLOSE, b""))
                self._connection.hub.soon(self._tell)
            else:
                self._connection.reset()

    def pause_reading(self) -> None:
        self._connection.to_hub.hold()

    def resume_reading(self) -> None:
        self._connection.to_hub.release()

    def allow(self, _bytes: int | None, _too_much: Callable[[], None] | None = None) -> None:
        """Everybody is known."""

    def watch(self, _look: Callable[[], None]) -> None:
        """Messages arrive whole."""

    def delivery(self) -> int | None:
        return None

    def sent(self) -> int | None:
        return None

    def release(self) -> None:
        """Nothing is kept."""

    # --- what happens to it ---

    def arrived(self, message: Message) -> None:
        """A frame of the client."""
        self.received += len(message.payload) + 2
        if not self._is_told:
            self._listener.on_ws_frame(self, Frame(message))  # type: ignore[arg-type]  # by shape

    def relieved(self) -> None:
        """Some of what was written has arrived."""
        if self._is_full and self._connection.to_client.bytes < LOW_WATER and not self._is_told:
            self._is_full = False
            self._listener.resume_writing()

    def lost(self) -> None:
        """The connection is over."""
        self._is_over = True
        self._tell()

    def _tell(self) -> None:
        if not self._is_told:
            self._is_told = True
            self._connection.half_closed()
            self._listener.on_ws_disconnected(self)  # type: ignore[arg-type]  # by shape


class SimulatedLink(Link):
    """The client's end, in the place of the one that has a socket."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._arrived: deque[bytes] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._over: asyncio.Future[CloseInfo] = asyncio.get_running_loop().create_future()
        self._told: Callable[[], None] = _nothing
        self._is_closing = False
        self._is_full = False

    @property
    def is_over(self) -> bool:
        """Whether nothing arrives any more."""
        return self._over.done()

    @override
    def when_room(self, told: Callable[[], None]) -> None:
        self._told = told

    @property
    @override
    def is_open(self) -> bool:
        return not self._over.done() and not self._is_closing

    @property
    @override
    def is_full(self) -> bool:
        return self._is_full

    @override
    def write(self, frames: Sequence[bytes]) -> None:
        if not self.is_open:
            return
        way = self._connection.to_hub
        for frame in frames:
            way.write(Message(TEXT, bytes(frame)))
        self._is_full = self._is_full or way.bytes > HIGH_WATER

    @override
    async def receive(self) -> bytes:
        while not self._arrived:
            if self._over.done():
                raise LinkEnded(self._over.result())
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        return self._arrived.popleft()

    @override
    async def close(self, code: int = 1000, reason: str = "") -> None:
        if not self.is_open:
            return
        self._is_closing = True
        self._connection.to_hub.write(Message(CLOSE, code.to_bytes(2, "big") + reason.encode()[:120]))
        _, late = await asyncio.wait([self._over], timeout=2 * CLOSE_SECONDS)
        if late:
            self.abort()

    @override
    def abort(self) -> None:
        self._is_closing = True
        self._connection.reset()

    # --- what happens to it ---

    def arrived(self, message: Message) -> None:
        """A frame of the hub."""
        if message.opcode == PING:
            self._connection.to_hub.write(Message(PONG, message.payload))
        elif message.opcode == CLOSE:
            code = int.from_bytes(message.payload[:2], "big") or ABNORMAL
            if self.is_open:  # RFC 6455, 5.5.1: answered with the same code
                self._connection.to_hub.write(Message(CLOSE, message.payload[:2]))
            self._end(CloseInfo(code, message.payload[2:].decode()))
        elif message.opcode == TEXT and not self._over.done():
            self._arrived.append(message.payload)
            self._wake()

    def relieved(self) -> None:
        """Some of what was written has arrived."""
        if self._is_full and self._connection.to_hub.bytes < LOW_WATER:
            self._is_full = False
            self._told()

    def lost(self) -> None:
        """The connection is over."""
        self._end(CloseInfo(ABNORMAL, RESET))

    def _end(self, info: CloseInfo) -> None:
        if not self._over.done():
            self._over.set_result(info)
            self._wake()
            self._connection.half_closed()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


def _nothing() -> None:
    """Nobody waits for room."""
