"""A WebSocket load generator that keeps its rate, whatever the server does: N connections, R requests a second in all.

Runs as a process of its own (``python -m bench.paced ...``) and prints one JSON object. Built on picows, so that the
generator costs little beside what it measures. ``lag_ms`` says how late it was itself (99th percentile), ``waited`` for
which part of the time the hub wanted a CPU and had none: where either is large, the machine was busy with other things.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import sys
import time
from collections import Counter

import picows
import uvloop

from bench.servers import allow_many_files, cpu_seconds, rss_bytes, waited_seconds

CONNECTING_AT_ONCE = 200
ADDRESSES = 8
"""Source addresses on Linux, 127.0.0.1 and up: each has ports of its own to wear out."""
TICK = 0.001
SETTLE = 1.0


class Answers:
    """What came back, of all connections. Latencies in seconds, of requests sent since :meth:`begin`."""

    def __init__(self) -> None:
        self.sent: dict[bytes, float] = {}
        self.requests = 0
        self.lost_connections = 0
        self.begin()

    def begin(self) -> None:
        """Forget what was measured so far."""
        self.began = time.perf_counter()
        self.results: list[float] = []
        self.refusals: list[float] = []
        self.errors: Counter[int] = Counter()
        self.results_arrived = 0

    def arrived(self, payload: bytes) -> None:
        at = payload.find(b'"id":') + 5
        sent = self.sent.pop(payload[at : at + 10], None)
        if sent is None:
            return
        now = time.perf_counter()
        if b'"error":' in payload:
            at = payload.find(b'"code":') + 7
            self.errors[int(payload[at : payload.index(b",", at)])] += 1
            if sent >= self.began:
                self.refusals.append(now - sent)
        else:
            self.results_arrived += 1
            if sent >= self.began:
                self.results.append(now - sent)


class Client(picows.WSListener):
    transport: picows.WSTransport

    def __init__(self, answers: Answers) -> None:
        self._answers = answers

    def on_ws_connected(self, transport: picows.WSTransport) -> None:
        self.transport = transport

    def on_ws_disconnected(self, _transport: picows.WSTransport) -> None:
        self._answers.lost_connections += 1

    def on_ws_frame(self, transport: picows.WSTransport, frame: picows.WSFrame) -> None:
        if frame.msg_type == picows.WSMsgType.TEXT:
            self._answers.arrived(frame.get_payload_as_bytes())
        elif frame.msg_type == picows.WSMsgType.CLOSE:
            transport.disconnect()


class Pacer:
    """Sends requests on time, one connection after the other."""

    def __init__(self, clients: list[Client], answers: Answers, method: str, params: str) -> None:
        self._clients = clients
        self._answers = answers
        self._head = b'{"jsonrpc":"2.0","id":'
        self._tail = b',"method":"%b","params":%b}' % (method.encode(), params.encode())
        self.lags: list[float] = []

    async def run(self, rate: float, seconds: float) -> None:
        """``rate`` a second for so many seconds; what could not be sent in time is sent as soon as it can be."""
        started, sent, total = time.perf_counter(), 0, int(rate * seconds)
        while sent < total:
            elapsed = time.perf_counter() - started
            due = min(total, int(elapsed * rate) + 1)
            if due > sent:
                self.lags.append(elapsed - sent / rate)
            for _ in range(sent, due):
                self._send()
            sent = due
            await asyncio.sleep(TICK)

    def _send(self) -> None:
        answers = self._answers
        # Fixed width, so that finding the id again costs a slice.
        key = b"%010d" % (1_000_000_000 + answers.requests)
        client = self._clients[answers.requests % len(self._clients)]
        answers.requests += 1
        answers.sent[key] = time.perf_counter()
        client.transport.send(picows.WSMsgType.TEXT, self._head + key + self._tail)


async def connect(url: str, connections: int, answers: Answers) -> list[Client]:
    """Open the connections, a bounded number at a time. Progress goes to stderr on a terminal."""
    at_once = asyncio.Semaphore(CONNECTING_AT_ONCE)
    clients: list[Client] = []

    async def one(number: int) -> None:
        # Elsewhere than on Linux only 127.0.0.1 is there.
        source = (f"127.0.0.{1 + number % ADDRESSES}", 0) if sys.platform == "linux" else None
        async with at_once:
            client = Client(answers)
            await picows.ws_connect(lambda: client, url, local_addr=source, websocket_handshake_timeout=30)
        clients.append(client)
        if sys.stderr.isatty() and len(clients) % 500 == 0:
            print(f"\r{len(clients):,} of {connections:,} connected ", end="", file=sys.stderr, flush=True)

    await asyncio.gather(*(one(number) for number in range(connections)))
    if sys.stderr.isatty():
        print("\r" + " " * 40 + "\r", end="", file=sys.stderr, flush=True)
    return clients


async def all_answered(answers: Answers, limit: float) -> None:
    """Until nothing is unanswered; gives up after ``limit`` seconds."""
    deadline = time.perf_counter() + limit
    while answers.sent and time.perf_counter() < deadline:
        await asyncio.sleep(0.005)


async def run(options: argparse.Namespace) -> dict[str, object]:
    """Connect, warm up, keep the rate for a while, and return what was measured."""
    answers = Answers()
    rss_before = rss_bytes(options.pid)
    connecting = time.perf_counter()
    clients = await connect(options.url, options.connections, answers)
    connect_seconds = time.perf_counter() - connecting
    gc.collect()
    gc.freeze()
    await asyncio.sleep(SETTLE)
    rss_connected = rss_bytes(options.pid)
    pacer = Pacer(clients, answers, options.method, options.params)
    await pacer.run(options.rate, options.warm_up)
    answers.begin()
    pacer.lags.clear()
    before, cpu, waited = answers.requests, cpu_seconds(options.pid), waited_seconds(options.pid)
    await pacer.run(options.rate, options.seconds)
    elapsed = time.perf_counter() - answers.began
    goodput = answers.results_arrived / elapsed
    waited = waited_seconds(options.pid) - waited
    await all_answered(answers, options.patience)
    cpu = cpu_seconds(options.pid) - cpu
    requests = answers.requests - before
    rss_loaded = rss_bytes(options.pid)
    lost = answers.lost_connections
    for client in clients:
        client.transport.disconnect()
    return {
        "connections": options.connections,
        "connect_seconds": connect_seconds,
        "lost_connections": lost,
        "rate": requests / elapsed,
        "goodput": goodput,
        "requests": requests,
        "unanswered": len(answers.sent),
        "errors": dict(answers.errors),
        **percentiles("", answers.results),
        **percentiles("refusal_", answers.refusals),
        "lag_ms": percentiles("", pacer.lags)["p99_ms"],
        "cpu_us": 1e6 * cpu / requests,
        "waited": waited / elapsed,
        "rss_before": rss_before,
        "rss_connected": rss_connected,
        "rss_loaded": rss_loaded,
    }


def percentiles(prefix: str, seconds: list[float]) -> dict[str, float]:
    """Median, 99th percentile and maximum in milliseconds; zeros where there is nothing."""
    ordered = sorted(seconds) or [0.0]
    return {
        f"{prefix}p50_ms": 1000 * ordered[len(ordered) // 2],
        f"{prefix}p99_ms": 1000 * ordered[int(len(ordered) * 0.99)],
        f"{prefix}max_ms": 1000 * ordered[-1],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url")
    parser.add_argument("--pid", type=int, required=True, help="the hub's process: its CPU time and memory are taken")
    parser.add_argument("--connections", type=int, default=100)
    parser.add_argument("--rate", type=float, default=1000.0, help="requests a second, all connections together")
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--warm-up", type=float, default=1.0, help="seconds at the same rate that do not count")
    parser.add_argument("--patience", type=float, default=10.0, help="seconds to wait for the last answers")
    parser.add_argument("--method", default="debug.echo")
    parser.add_argument("--params", default='{"value":"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"}', help="JSON")
    options = parser.parse_args()
    allow_many_files()
    print(json.dumps(uvloop.run(run(options))))


if __name__ == "__main__":
    main()
