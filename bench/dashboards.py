"""What dashboards cost the hub: ``python -m bench.dashboards``.

Ten dashboards are open, spread over the page's views, under 20,000 routed calls a second. Each does what the page
does, from the page's own list (``clients/dashboard/src/hub/asks.json``): a session, the subscriptions, what it asks
once, and what it asks again and again. Runs with and without them alternate on one hub; only the ratios mean something.

What a hub can do is bounded by the CPU time it needs for a call, on one core. That is what is compared, at a rate which
leaves room on the machine: here the dashboards, which are other people's machines, share the cores with the hub.

Target: the hub can do at least 0.95x the calls that it can do without dashboards.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import statistics
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import picows
import uvloop

from bench.listeners import connected
from bench.servers import Running, hub_process

TARGET: Final = 0.95
DASHBOARDS: Final = 10
ASKS: Final = Path(__file__).parents[1] / "clients" / "dashboard" / "src" / "hub" / "asks.json"
ACK_FRAMES: Final = 32
ACK_SECONDS: Final = 0.2
"""As the JavaScript client acknowledges the frames of a session."""


class Dashboard(picows.WSListener):
    """One page that shows one view.

    Args:
        asks: the page's list.
        view: a name of its ``views``.
    """

    def __init__(self, asks: dict[str, Any], view: str) -> None:
        self._first = [*asks["first"].values(), asks["always"]]
        shown = asks["views"][view]
        self._topics = [*asks["topics"], *([shown["topic"]] if "topic" in shown else [])]
        self._polled = [asks["always"], *([shown] if "method" in shown else [])]
        self._ids = itertools.count(1)
        self._frames = itertools.count(1)
        self._numbered = 0
        self._acknowledged = 0
        self._waits_for: dict[int, str] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.received: Counter[str] = Counter()
        self.bytes = 0
        self.transport: picows.WSTransport

    def on_ws_connected(self, transport: picows.WSTransport) -> None:
        self.transport = transport
        self._send({"jsonrpc": "2.0", "id": "open", "method": "session.open", "params": {}})

    def on_ws_frame(self, _transport: picows.WSTransport, frame: picows.WSFrame) -> None:
        if frame.msg_type != picows.WSMsgType.TEXT:
            return
        payload = frame.get_payload_as_bytes()
        self.bytes += len(payload)
        # Events are many and large: a browser has a machine of its own to parse them on.
        if payload.startswith(b'{"jsonrpc":"2.0","method":"event"'):
            at = payload.index(b'"topic":"') + 9
            self.received[payload[at : payload.index(b'"', at)].decode()] += 1
            return
        self._answered(json.loads(payload))

    def _answered(self, message: dict[str, Any]) -> None:
        if "seq" in message:
            self._numbered += 1
            if self._numbered - self._acknowledged >= ACK_FRAMES:
                self._acknowledge()
        if "error" in message:
            raise SystemExit(f"the hub refused a dashboard: {message['error']['message']}")
        if message.get("id") == "open":
            self._begin()
        elif "id" in message:
            self.received[self._waits_for.pop(message["id"])] += 1
            if not self._waits_for and not self.ready.done():
                self.ready.set_result(None)

    def _begin(self) -> None:
        for topic in self._topics:
            self._call("subscribe", {"topic": topic}, numbered=False)
        for asked in self._first:
            self._call(asked["method"], asked["params"])
        for asked in self._polled:
            self._tasks.append(
                asyncio.create_task(self._poll(asked["method"], asked["params"], asked["everyMs"] / 1000))
            )
        self._tasks.append(asyncio.create_task(self._acknowledge_late()))

    async def _poll(self, method: str, params: Any, seconds: float) -> None:
        while True:
            self._call(method, params, metadata={"timeout_ms": 5000})
            await asyncio.sleep(seconds)

    async def _acknowledge_late(self) -> None:
        while True:
            await asyncio.sleep(ACK_SECONDS)
            if self._numbered > self._acknowledged:
                self._acknowledge()

    def _acknowledge(self) -> None:
        self._acknowledged = self._numbered
        self._send({"jsonrpc": "2.0", "method": "session.ack", "params": {"received": self._numbered}})

    def _call(self, method: str, params: Any, *, numbered: bool = True, **more: Any) -> None:
        number = next(self._ids)
        self._waits_for[number] = method
        message = {"jsonrpc": "2.0", "id": number, "method": method, "params": params, **more}
        self._send({"seq": next(self._frames), **message} if numbered else message)

    def _send(self, message: dict[str, Any]) -> None:
        self.transport.send(picows.WSMsgType.TEXT, json.dumps(message).encode())

    def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        self.transport.disconnect()


@asynccontextmanager
async def dashboards(url: str, number: int) -> AsyncIterator[list[Dashboard]]:
    """So many of them, each with its first answers."""
    asks = json.loads(ASKS.read_text())
    views = itertools.cycle(asks["views"])
    opened: list[Dashboard] = []
    for _ in range(number):
        page = await connected(Dashboard(asks, next(views)), url)
        await asyncio.wait_for(page.ready, 30)
        opened.append(page)
    try:
        yield opened
    finally:
        for page in opened:
            page.close()


async def load(hub: Running, options: argparse.Namespace) -> dict[str, Any]:
    """Calls from a process of its own, for a while."""
    command = ["-m", "bench.paced", hub.url, "--rate", str(options.rate), "--seconds", str(options.seconds)]
    command += ["--connections", str(options.connections), "--pid", str(hub.pid)]
    process = await asyncio.create_subprocess_exec(sys.executable, *command, stdout=asyncio.subprocess.PIPE)
    printed, _ = await asyncio.wait_for(process.communicate(), options.seconds * 3 + 30)
    measured: dict[str, Any] = json.loads(printed)
    if measured["errors"] or measured["unanswered"]:
        raise SystemExit(f"calls failed: {measured['errors']}, {measured['unanswered']:.0f} without an answer")
    return measured


async def watched(hub: Running, options: argparse.Namespace) -> dict[str, Any]:
    """The same while dashboards are open; says what they got."""
    async with dashboards(hub.url, options.dashboards) as pages:
        before = sum(page.bytes for page in pages)
        measured = await load(hub, options)
        got = sum((page.received for page in pages), Counter[str]())
        received = sum(page.bytes for page in pages) - before
    if got["system.metrics"] < options.dashboards or got["system.requests"] < options.dashboards:
        raise SystemExit(f"the dashboards were not told what happened: {dict(got)}")
    return measured | {"received": received}


async def compare(options: argparse.Namespace) -> float:
    """Alternate the two; what the hub can do beside dashboards, by the median of the pairs."""
    costs: list[float] = []
    with hub_process("--executors", str(options.executors)) as hub:
        await load(hub, options)  # the first run finds cold caches
        for index in range(options.rounds):
            # Which of the two goes first alternates, too: whatever drifts does not favour one of them.
            first, second = (load, watched) if index % 2 else (watched, load)
            one, other = await first(hub, options), await second(hub, options)
            bare, seen = (one, other) if first is load else (other, one)
            costs.append(seen["cpu_us"] / bare["cpu_us"])
            print(f"{options.dashboards} dashboards: {_worded(seen)}   none: {_worded(bare)}")
    print(
        f"CPU a call: {statistics.median(costs):.3f}x that without dashboards (range {min(costs):.3f}-{max(costs):.3f})"
    )
    return 1 / statistics.median(costs)


def _worded(measured: dict[str, Any]) -> str:
    said = f"{measured['goodput']:>7,.0f} calls/s, {measured['cpu_us']:.1f} us of the hub's CPU each"
    told = measured.get("received")
    return said if told is None else f"{said}, {told / 1e6:.1f} MB to them"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--connections", type=int, default=50)
    parser.add_argument("--rate", type=float, default=20_000.0, help="calls a second")
    parser.add_argument("--executors", type=int, default=1, help="executors of the hub that is measured")
    parser.add_argument("--dashboards", type=int, default=DASHBOARDS)
    options = parser.parse_args()
    ratio = uvloop.run(compare(options))
    print(f"calls the hub can do with {options.dashboards} dashboards: {ratio:.3f}x (target {TARGET} or more)")
    if ratio < TARGET:
        sys.exit(1)


if __name__ == "__main__":
    main()
