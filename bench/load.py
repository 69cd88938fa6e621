"""A WebSocket load generator: N connections, W requests in flight on each, bounded in time.

Runs as a process of its own (``python -m bench.load ...``) and prints one JSON object. Built on picows, so that the
generator costs little beside what it measures.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time

import picows
import uvloop

from bench.listeners import connected
from bench.servers import cpu_seconds


class Client(picows.WSListener):
    """One connection: sends the next request as soon as an answer comes. Answers may come in any order."""

    transport: picows.WSTransport

    def __init__(self, frame: bytes, window: int, latencies: list[float], session: bool = False) -> None:
        self._session = session
        self._received = 0
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._frame = frame
        self._window = window
        self._latencies = latencies
        self._sent: dict[bytes, float] = {}
        self._next = 0
        self.running = False
        self.answers = 0
        self.errors = 0

    def on_ws_connected(self, transport: picows.WSTransport) -> None:
        self.transport = transport
        if self._session:
            transport.send(picows.WSMsgType.TEXT, b'{"jsonrpc":"2.0","id":"open","method":"session.open"}')
        else:
            self.opened.set_result(None)

    def begin(self) -> None:
        self.running = True
        for _ in range(self._window):
            self._send()

    def _send(self) -> None:
        # Fixed width, so that finding the id again costs a slice.
        key = b"%08d" % (10_000_000 + self._next)
        self._next += 1
        self._sent[key] = time.perf_counter()
        frame = self._frame.replace(b"########", key)
        if self._session:
            frame = b'{"seq":%d,' % self._next + frame[1:]
        self.transport.send(picows.WSMsgType.TEXT, frame)

    def _acknowledge(self) -> None:
        self._received += 1
        if self._received % 32 == 0:
            ack = b'{"jsonrpc":"2.0","method":"session.ack","params":{"received":%d}}' % self._received
            self.transport.send(picows.WSMsgType.TEXT, ack)

    def on_ws_frame(self, _transport: picows.WSTransport, frame: picows.WSFrame) -> None:
        payload = frame.get_payload_as_bytes()
        if self._session:
            if payload.startswith(b'{"seq":'):
                self._acknowledge()
            elif not self.opened.done():
                self.opened.set_result(None)
        at = payload.find(b'"id":') + 5
        sent = self._sent.pop(payload[at : at + 8], None)
        if sent is None:
            return
        if b'"error":' in payload:
            self.errors += 1
        self.answers += 1
        self._latencies.append(time.perf_counter() - sent)
        if self.running:
            self._send()


def request_frame(method: str, size: int) -> bytes:
    """A request of ``size`` bytes in all, its id still to be filled in."""
    head = b'{"jsonrpc":"2.0","id":########,"method":"%b","params":{"value":"' % method.encode()
    tail = b'"}}'
    return head + b"x" * max(1, size - len(head) - len(tail)) + tail


async def run(
    url: str,
    connections: int,
    window: int,
    seconds: float,
    frame: bytes,
    token: str = "",
    session: bool = False,
    pid: int | None = None,
) -> dict[str, float]:
    """Load ``url`` and return what was measured. Latencies in milliseconds.

    Args:
        pid: a process, such as the hub's, whose CPU time for each answer is measured, too (``cpu_us``).
    """
    latencies: list[float] = []
    clients: list[Client] = []
    headers = {"Authorization": f"Bearer {token}"} if token else None
    for _ in range(connections):
        client = await connected(Client(frame, window, latencies, session), url, headers)
        await client.opened
        clients.append(client)
    for client in clients:
        client.begin()
    await asyncio.sleep(min(1.0, seconds / 4))  # warm-up is not counted
    latencies.clear()
    cpu = cpu_seconds(pid) if pid else 0.0
    before, started = sum(client.answers for client in clients), time.perf_counter()
    await asyncio.sleep(seconds)
    elapsed = time.perf_counter() - started
    cpu = (cpu_seconds(pid) if pid else 0.0) - cpu
    answers = sum(client.answers for client in clients) - before
    for client in clients:
        client.running = False
    counted = sorted(latencies)
    errors = sum(client.errors for client in clients)
    for client in clients:
        client.transport.disconnect()
    return {
        "rate": answers / elapsed,
        "p50_ms": 1000 * counted[len(counted) // 2],
        "p99_ms": 1000 * counted[int(len(counted) * 0.99)],
        "errors": errors,
        "cpu_us": 1e6 * cpu / max(1, answers),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("--connections", type=int, default=50)
    parser.add_argument("--window", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--size", type=int, default=100)
    parser.add_argument("--method", default="debug.echo")
    parser.add_argument("--token", default="")
    parser.add_argument("--session", action="store_true", help="open a session on each connection")
    parser.add_argument("--pid", type=int, help="a process whose CPU time a call is measured, too")
    options = parser.parse_args()
    frame = request_frame(options.method, options.size)
    measured = run(
        options.url,
        options.connections,
        options.window,
        options.seconds,
        frame,
        options.token,
        options.session,
        options.pid,
    )
    print(json.dumps(uvloop.run(measured)))


if __name__ == "__main__":
    main()
