"""N subscribers and one publisher of one topic, for any of the servers ``bench.fanout`` compares.

Runs as a process of its own (``python -m bench.subscribers hub|ws|socketio|nats|bare URL ...``) and prints one JSON
object. Every subscriber checks that each event comes once and in order: an event carries its number and the time it
was published at.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import json
import time
from collections.abc import Sequence
from typing import ClassVar
from urllib.parse import urlsplit

import picows
import uvloop

from bench.servers import allow_many_files, cpu_parts

EVENT_BYTES = 100
TOPIC = "bench.a"
MARK = b"~~"
CONNECTING_AT_ONCE = 100
PATIENCE = 15.0
"""Seconds to wait for the last deliveries."""


class Tally:
    """What all subscribers of a run have received. Latencies in microseconds."""

    def __init__(self) -> None:
        self.deliveries = 0
        self.out_of_order = 0
        self.latencies: list[int] = []
        self._awaited = 0
        self._complete: asyncio.Event = asyncio.Event()

    def arrived(self, sent_at: int) -> None:
        self.deliveries += 1
        self.latencies.append(time.monotonic_ns() // 1000 - sent_at)
        if self.deliveries == self._awaited:
            self._complete.set()

    async def wait_for(self, deliveries: int) -> None:
        """Until so many deliveries have arrived since the run began, or do not come."""
        self._awaited = deliveries
        self._complete.clear()
        if self.deliveries < deliveries:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._complete.wait(), PATIENCE)


class Peer:
    """One connection in one server's dialect: a subscriber, or the publisher."""

    def __init__(self, tally: Tally, *, publisher: bool = False) -> None:
        self.tally = tally
        self.publisher = publisher
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._expected = 0

    async def connect(self, url: str) -> None:
        raise NotImplementedError

    def publish(self, event: bytes) -> None:
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError

    def count(self, data: bytes) -> None:
        """``data`` holds one event somewhere."""
        at = data.index(MARK) + 2
        number = int(data[at : at + 8])
        if number != self._expected:
            self.tally.out_of_order += 1
        self._expected = number + 1
        self.tally.arrived(int(data[at + 8 : at + 24]))


class WebSocketPeer(Peer, picows.WSListener):
    kind: ClassVar[picows.WSMsgType] = picows.WSMsgType.TEXT
    transport: picows.WSTransport

    def path(self) -> str:
        return ""

    async def connect(self, url: str) -> None:
        await picows.ws_connect(lambda: self, url + self.path(), enable_auto_ping=False)
        await asyncio.wait_for(self.ready, 30)

    def close(self) -> None:
        self.transport.disconnect()

    def on_ws_connected(self, transport: picows.WSTransport) -> None:
        self.transport = transport
        self.greet()

    def on_ws_disconnected(self, _transport: picows.WSTransport) -> None:
        if not self.ready.done():
            self.ready.set_exception(ConnectionError("the server closed the connection"))

    def on_ws_frame(self, transport: picows.WSTransport, frame: picows.WSFrame) -> None:
        if frame.msg_type == picows.WSMsgType.CLOSE:
            transport.disconnect()
        elif frame.msg_type == self.kind:
            self.receive(frame.get_payload_as_bytes())

    def send(self, message: bytes) -> None:
        self.transport.send(self.kind, message)

    def greet(self) -> None:
        self.ready.set_result(None)

    def receive(self, message: bytes) -> None:
        self.count(message)


class HubPeer(WebSocketPeer):
    """Trunkline."""

    def greet(self) -> None:
        if self.publisher:
            self.ready.set_result(None)
        else:
            self.send(b'{"jsonrpc":"2.0","id":1,"method":"subscribe","params":{"topic":"%b"}}' % TOPIC.encode())

    def receive(self, message: bytes) -> None:
        if MARK in message:
            self.count(message)
        elif b'"error"' in message:
            problem = RuntimeError(message.decode())
            if self.ready.done():
                raise problem
            self.ready.set_exception(problem)
        elif not self.ready.done():
            self.ready.set_result(None)

    def publish(self, event: bytes) -> None:
        self.send(
            b'{"jsonrpc":"2.0","id":1%b,"method":"publish","params":{"topic":"%b","data":"%b"}}'
            % (event[2:10], TOPIC.encode(), event)
        )


class WsPeer(WebSocketPeer):
    """The server in ``competitors/ws_server.mjs``."""

    def path(self) -> str:
        return f"/{'publish' if self.publisher else 'subscribe'}/{TOPIC}"

    def publish(self, event: bytes) -> None:
        self.send(event)


class SocketIoPeer(WebSocketPeer):
    """Engine.IO 4 and Socket.IO 5: open, connect to the namespace, ask for the room, answer pings."""

    def path(self) -> str:
        return "/socket.io/?EIO=4&transport=websocket"

    def greet(self) -> None:
        pass

    def receive(self, message: bytes) -> None:
        if message.startswith(b"42"):
            self.count(message)
        elif message == b"2":
            self.send(b"3")
        elif message.startswith(b"0"):
            self.send(b"40")
        elif message.startswith(b"40") and not self.publisher:
            self.send(b'420["subscribe","%b"]' % TOPIC.encode())
        else:  # joined, or connected as the publisher
            self.ready.set_result(None)

    def publish(self, event: bytes) -> None:
        self.send(b'42["publish","%b","%b"]' % (TOPIC.encode(), event))


class NatsPeer(WebSocketPeer):
    """The NATS client protocol in binary frames: one frame may hold several messages or a part of one."""

    kind = picows.WSMsgType.BINARY

    def __init__(self, tally: Tally, *, publisher: bool = False) -> None:
        super().__init__(tally, publisher=publisher)
        self._received = b""

    def greet(self) -> None:
        subscription = b"" if self.publisher else b"SUB %b 1\r\n" % TOPIC.encode()
        self.send(b'CONNECT {"verbose":false,"pedantic":false,"echo":false}\r\n%bPING\r\n' % subscription)

    def receive(self, message: bytes) -> None:
        data = self._received + message
        while True:
            line, found, rest = data.partition(b"\r\n")
            if line.startswith(b"MSG"):
                size = int(line.rpartition(b" ")[2])
                if not found or len(rest) < size + 2:
                    break
                self.count(rest[:size])
                data = rest[size + 2 :]
            elif found:
                self._control(line)
                data = rest
            else:
                break
        self._received = data

    def _control(self, line: bytes) -> None:
        if line == b"PING":
            self.send(b"PONG\r\n")
        elif line == b"PONG" and not self.ready.done():
            self.ready.set_result(None)
        elif line.startswith(b"-ERR"):
            raise RuntimeError(line.decode())

    def publish(self, event: bytes) -> None:
        self.send(b"PUB %b %d\r\n%b\r\n" % (TOPIC.encode(), len(event), event))


class BarePeer(Peer, asyncio.Protocol):
    """The server in ``competitors/bare_loop.py``: ready frames on plain TCP."""

    _received = b""

    async def connect(self, url: str) -> None:
        where = urlsplit(url)
        assert where.hostname is not None
        assert where.port is not None
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.create_connection(lambda: self, where.hostname, where.port)
        if self.publisher:
            self.ready.set_result(None)
        else:
            self._transport.write(b"S")
        await asyncio.wait_for(self.ready, 30)

    def data_received(self, data: bytes) -> None:
        if not self.ready.done():
            self.ready.set_result(None)
            data = data[1:]
        data = self._received + data
        size = EVENT_BYTES + 2
        for at in range(0, len(data) - size + 1, size):
            self.count(data[at : at + size])
        self._received = data[len(data) - len(data) % size :]

    def publish(self, event: bytes) -> None:
        self._transport.write(b"\x81" + bytes((len(event),)) + event)

    def close(self) -> None:
        self._transport.close()


DIALECTS: dict[str, type[Peer]] = {
    "hub": HubPeer,
    "ws": WsPeer,
    "socketio": SocketIoPeer,
    "nats": NatsPeer,
    "bare": BarePeer,
}


def event(number: int) -> bytes:
    """An event: its mark, its number (8 digits), when it was sent (16 digits, microseconds), and padding."""
    return (b"%b%08d%016d" % (MARK, number, time.monotonic_ns() // 1000)).ljust(EVENT_BYTES, b"x")


async def connect_all(peers: Sequence[Peer], url: str) -> None:
    at_once = asyncio.Semaphore(CONNECTING_AT_ONCE)

    async def connect(peer: Peer) -> None:
        async with at_once:
            await peer.connect(url)

    await asyncio.gather(*(connect(peer) for peer in peers))


async def publish(publisher: Peer, first: int, count: int, rate: float) -> None:
    """Publish ``count`` events, numbered from ``first``, at ``rate`` a second."""
    started = time.monotonic()
    for index in range(count):
        await asyncio.sleep(started + index / rate - time.monotonic())
        publisher.publish(event(first + index))


async def run(dialect: type[Peer], options: argparse.Namespace) -> dict[str, float]:
    """Deliver warm-up events, then those that count. CPU time is the server's alone."""
    tally = Tally()
    subscribers = [dialect(tally) for _ in range(options.subscribers)]
    publisher = dialect(tally, publisher=True)
    await connect_all([*subscribers, publisher], options.url)
    gc.collect()
    gc.freeze()
    warm_up = max(3, options.events // 5)
    await publish(publisher, 0, warm_up, options.rate)
    await tally.wait_for(warm_up * len(subscribers))
    tally.latencies.clear()
    (user, system), before = cpu_parts(options.pid), tally.deliveries
    await publish(publisher, warm_up, options.events, options.rate)
    await tally.wait_for((warm_up + options.events) * len(subscribers))
    user_after, system_after = cpu_parts(options.pid)
    deliveries = tally.deliveries - before
    microseconds = 1e6 / max(1, deliveries)
    for peer in (*subscribers, publisher):
        peer.close()
    latencies = sorted(tally.latencies) or [0]
    return {
        "deliveries": deliveries,
        "missing": (warm_up + options.events) * len(subscribers) - tally.deliveries,
        "out_of_order": tally.out_of_order,
        "cpu_us": microseconds * (user_after - user + system_after - system),
        "kernel_us": microseconds * (system_after - system),
        "p50_ms": latencies[len(latencies) // 2] / 1000,
        "p99_ms": latencies[int(len(latencies) * 0.99)] / 1000,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dialect", choices=DIALECTS)
    parser.add_argument("url")
    parser.add_argument("--pid", type=int, required=True, help="the server's process, whose CPU time is taken")
    parser.add_argument("--subscribers", type=int, default=500)
    parser.add_argument("--events", type=int, default=400)
    parser.add_argument("--rate", type=float, default=60.0, help="events a second")
    options = parser.parse_args()
    allow_many_files()
    print(json.dumps(uvloop.run(run(DIALECTS[options.dialect], options))))


if __name__ == "__main__":
    main()
