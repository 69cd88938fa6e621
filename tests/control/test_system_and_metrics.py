from __future__ import annotations

import os
import platform

from tests.support.hub import RunningHub
from tests.support.match import require
from tests.support.peer import Peer
from trunkline.version import __version__


async def test_system_info(debug_peer: Peer, debug_hub: RunningHub) -> None:
    require(
        {
            "name": "trunkline",
            "version": __version__,
            "wire_version": "1",
            "python": platform.python_version(),
            "pid": debug_hub.process.pid,
            "cpu_count": os.cpu_count(),
            "executors": 2,
            "packs": ["debug"],
            "methods": {"$type": "number"},
            "memory_total_mb": {"$type": "number"},
        },
        await debug_peer.result("system.info"),
    )


async def test_metrics_count_what_was_called(debug_peer: Peer) -> None:
    empty = {"count": 0, "success": 0, "errors": {}}
    before = (await debug_peer.result("metrics.get"))["methods"]
    for _ in range(4):
        await debug_peer.result("debug.echo", {"value": 1})
    await debug_peer.error("debug.fail")
    slow = await debug_peer.request("debug.sleep", {"seconds": 30}, metadata={"timeout_ms": 200})
    await debug_peer.reply(slow)
    metrics = await debug_peer.result("metrics.get")
    after = metrics["methods"]

    def grown(name: str, member: str) -> int:
        return int(after[name][member] - before.get(name, empty)[member])

    assert (grown("debug.echo", "count"), grown("debug.echo", "success")) == (4, 4)
    assert (grown("debug.fail", "count"), grown("debug.fail", "success")) == (1, 0)
    assert after["debug.fail"]["errors"]["INTERNAL_ERROR"] >= 1
    assert after["debug.sleep"]["errors"]["COMMUNICATION_TIMEOUT"] >= 1
    assert after["debug.sleep"]["max_ms"] >= 200
    for stats in after.values():
        assert 0 <= stats["p50_ms"] <= stats["p95_ms"] <= stats["p99_ms"] <= stats["max_ms"]
        assert stats["mean_ms"] <= stats["max_ms"]
    assert metrics["request_count"] == sum(stats["count"] for stats in after.values())


async def test_a_failure_counts_for_the_method_that_was_called(debug_peer: Peer) -> None:
    def of(metrics: dict[str, dict[str, dict[str, int]]], name: str) -> int:
        return metrics["methods"].get(name, {}).get("count", 0)

    before = await debug_peer.result("metrics.get")
    await debug_peer.error("debug.call", {"method": "no.such.method"})
    after = await debug_peer.result("metrics.get")
    assert of(after, "debug.call") - of(before, "debug.call") == 1, "it is served, and it failed"


async def test_what_peers_make_up_is_one_name(debug_peer: Peer) -> None:
    for number in range(5):
        await debug_peer.error(f"made.up.{number}")
    methods = (await debug_peer.result("metrics.get"))["methods"]
    assert methods["(unknown)"]["count"] >= 5
    assert not [name for name in methods if name.startswith("made.up")]
