"""Calls in flight that wait: ``python -m bench.inflight``.

100,000 calls at once, 100 on each of 1,000 connections, in two ways: **queued** in the hub, behind calls that hold
every slot, and **running** as coroutines that sleep in an executor. What one of them takes is the hub's resident memory
with all of them less that with the connections alone.

Targets: every call is answered; at most 2 KB of the hub's memory a waiting call, either way. Beside them stand what the
executor takes for a running call, and how long a ping takes while all of them wait.

The load generator is a process of its own (``python -m bench.inflight URL ...``).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from typing import Any

import picows
import psutil
import uvloop

from bench.listeners import connected
from bench.servers import Running, allow_many_files, cpu_seconds, hub_process, rss_bytes

BYTES_TARGET = 2_000
TIMEOUT_MS = 300_000
CONNECTING_AT_ONCE = 100
SETTLE = 0.5
QUIET = 0.05
"""The part of a CPU that hub and executors may use while they have nothing to do."""

PINGS = 200
SLOTS = 32
QUEUE_LIMIT = 131_072
"""What ``TRUNKLINE_MAX_CALLS`` is by default: of so many the last fifth is kept for those with little in the queue."""


class Client(picows.WSListener):
    """One connection: counts what comes back."""

    transport: picows.WSTransport

    def __init__(self, answers: Counter[str]) -> None:
        self._answers = answers

    def on_ws_connected(self, transport: picows.WSTransport) -> None:
        self.transport = transport

    def on_ws_disconnected(self, _transport: picows.WSTransport) -> None:
        self._answers["lost connections"] += 1

    def on_ws_frame(self, _transport: picows.WSTransport, frame: picows.WSFrame) -> None:
        if frame.msg_type != picows.WSMsgType.TEXT:
            return
        payload = frame.get_payload_as_bytes()
        if b'"result":' in payload:
            self._answers["results"] += 1
        else:
            at = payload.find(b'"code":') + 7
            self._answers[payload[at : payload.find(b",", at)].decode()] += 1

    def request(self, number: int, method: str, params: str) -> None:
        message = '{"jsonrpc":"2.0","id":%d,"method":"%s","params":%s,"metadata":{"timeout_ms":%d}}'
        self.transport.send(picows.WSMsgType.TEXT, (message % (number, method, params, TIMEOUT_MS)).encode())


class Control(Client):
    """One connection beside the others: asks what is in flight, holds the slots and lets them go."""

    def __init__(self) -> None:
        Client.__init__(self, Counter())
        self._replies: dict[int, asyncio.Future[Any]] = {}
        self._next = 0

    def on_ws_frame(self, _transport: picows.WSTransport, frame: picows.WSFrame) -> None:
        if frame.msg_type == picows.WSMsgType.TEXT:
            message = json.loads(frame.get_payload_as_bytes())
            if (reply := self._replies.pop(message["id"], None)) is not None:
                reply.set_result(message.get("result"))

    async def call(self, method: str) -> Any:
        """Call a method of the hub's."""
        self._next += 1
        self._replies[self._next] = reply = asyncio.get_running_loop().create_future()
        self.request(self._next, method, "{}")
        return await reply

    async def in_flight(self) -> int:
        """Calls that the hub has, the one that asks among them."""
        return int((await self.call("health.check"))["active_requests"])

    async def ping_ms(self) -> float:
        """The median time of a ping, in milliseconds."""
        times = []
        for _ in range(PINGS):
            started = time.perf_counter()
            await self.call("rpc.ping")
            times.append(time.perf_counter() - started)
        return 1000 * statistics.median(times)

    def hold(self, slots: int) -> None:
        for number in range(slots):
            self.request(-1 - number, "debug.sleep", '{"seconds":3600}')

    def let_go(self, slots: int) -> None:
        for number in range(slots):
            cancel = b'{"jsonrpc":"2.0","method":"$/cancelRequest","params":{"id":%d}}' % (-1 - number)
            self.transport.send(picows.WSMsgType.TEXT, cancel)


@dataclass(frozen=True, slots=True)
class Load:
    """What to do to a hub; the arguments of the generator."""

    url: str
    pid: int
    connections: int
    calls: int
    held_slots: int
    seconds: float


def executors_of(hub: int) -> list[int]:
    """The processes that run the hub's methods."""
    return [child.pid for child in psutil.Process(hub).children()]


def executors_rss(hub: int) -> int:
    """Memory of the hub's executors that is resident now."""
    return sum(map(rss_bytes, executors_of(hub)))


async def connect(load: Load, answers: Counter[str]) -> list[Client]:
    clients: list[Client] = []
    while len(clients) < load.connections:
        at_once = min(CONNECTING_AT_ONCE, load.connections - len(clients))
        clients += await asyncio.gather(*(connected(Client(answers), load.url) for _ in range(at_once)))
    return clients


async def settled(hub: int) -> None:
    """Wait until hub and executors have done what was sent to them, by their use of CPU."""
    used = -1.0
    while (now := cpu_seconds(hub) + sum(cpu_seconds(pid) for pid in executors_of(hub))) - used > QUIET * SETTLE:
        used = now
        await asyncio.sleep(SETTLE)


async def reached(control: Control, wanted: int, limit: float) -> int:
    """Wait until so many calls are in flight, and return how many there are."""
    until = time.monotonic() + limit
    while (found := await control.in_flight()) < wanted and time.monotonic() < until:
        await asyncio.sleep(0.05)
    return found


async def run(load: Load) -> dict[str, Any]:
    """Connect, send everything, measure, wait for all answers."""
    answers: Counter[str] = Counter()
    clients = await connect(load, answers)
    control = await connected(Control(), load.url)
    control.hold(load.held_slots)
    await settled(load.pid)
    idle_calls = await control.in_flight()
    rss_before, executor_before = rss_bytes(load.pid), executors_rss(load.pid)
    cpu_before, started = cpu_seconds(load.pid), time.perf_counter()
    method, params = (
        ("debug.echo", '{"value":1}') if load.held_slots else ("debug.sleep", f'{{"seconds":{load.seconds}}}')
    )
    total = load.connections * load.calls
    for number in range(load.calls):
        for client in clients:
            client.request(number, method, params)
        await asyncio.sleep(0)
    in_flight = await reached(control, total + idle_calls, 120) - idle_calls
    seconds_in = time.perf_counter() - started
    await settled(load.pid)
    rss_full, executor_full, ping_ms = rss_bytes(load.pid), executors_rss(load.pid), await control.ping_ms()
    if load.held_slots:
        control.let_go(load.held_slots)
    until = time.monotonic() + TIMEOUT_MS / 1000
    let_go = time.perf_counter()
    while sum(answers.values()) < total and time.monotonic() < until:
        await asyncio.sleep(0.05)
    measured = {
        "in_flight": in_flight,
        "bytes": (rss_full - rss_before) / total,
        "executor_bytes": (executor_full - executor_before) / total,
        "ping_ms": ping_ms,
        "seconds_in": seconds_in,
        "seconds_out": time.perf_counter() - let_go,
        "cpu_us": 1e6 * (cpu_seconds(load.pid) - cpu_before) / total,
        "answers": dict(answers),
    }
    for client in (*clients, control):
        client.transport.disconnect()
    return measured


def measure(name: str, hub: Running, held_slots: int, options: argparse.Namespace) -> bool:
    """One way of waiting; prints what it cost and returns whether the targets were met."""
    command = [
        sys.executable, "-m", "bench.inflight", "--url", hub.url, "--pid", str(hub.pid),
        "--connections", str(options.connections), "--calls", str(options.calls),
        "--held-slots", str(held_slots), "--seconds", str(options.seconds),
    ]  # fmt: skip
    printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, timeout=900)
    result = json.loads(printed.stdout)
    total = options.connections * options.calls
    print(
        f"{name:<8} {result['in_flight']:>8,} calls in flight after {result['seconds_in']:.1f} s, answered "
        f"{result['seconds_out']:.1f} s later: {result['answers']}   {result['cpu_us']:.1f} us of CPU a call   "
        f"{result['bytes']:,.0f} bytes a waiting call (target {BYTES_TARGET:,} or less), "
        f"{result['executor_bytes']:,.0f} of the executor's; a ping meanwhile takes {result['ping_ms']:.2f} ms",
        flush=True,
    )
    answered = result["answers"] == {"results": total} and result["in_flight"] == total
    return answered and bool(result["bytes"] <= BYTES_TARGET)


def compare(options: argparse.Namespace) -> bool:
    total = options.connections * options.calls
    deep = {"TRUNKLINE_QUEUE_LIMIT": str(QUEUE_LIMIT)}  # the default refuses earlier, so that overload is told at once
    with hub_process("--executors", "1", env=deep) as hub:
        queued = measure("queued", hub, SLOTS, options)
    with hub_process("--executors", "1", env={**deep, "TRUNKLINE_MAX_CONCURRENCY": str(total)}) as hub:
        running = measure("running", hub, 0, options)
    return queued and running


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--connections", type=int, default=1000)
    parser.add_argument("--calls", type=int, default=100, help="on each connection at once")
    parser.add_argument("--seconds", type=float, default=30.0, help="that a running call sleeps")
    parser.add_argument("--url", help=argparse.SUPPRESS)
    parser.add_argument("--pid", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--held-slots", type=int, default=0, help=argparse.SUPPRESS)
    options = parser.parse_args()
    allow_many_files()
    if options.url:
        load = Load(options.url, options.pid, options.connections, options.calls, options.held_slots, options.seconds)
        print(json.dumps(uvloop.run(run(load))))
    elif not compare(options):
        sys.exit(1)


if __name__ == "__main__":
    main()
