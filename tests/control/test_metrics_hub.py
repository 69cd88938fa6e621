"""``/metrics`` and ``metrics.get`` of a real hub."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.support.hub import DEBUG_METHODS, MODULES, RunningHub, ready_hub
from tests.support.peer import Peer, peer
from tests.support.timing import START, eventually, until


@pytest.fixture(scope="module")
def hub() -> Iterator[RunningHub]:
    """One executor that runs one coroutine at a time, so that calls wait."""
    env = {"TRUNKLINE_MAX_CONCURRENCY": "1"}
    with ready_hub(DEBUG_METHODS, "lab", cwd=MODULES, executors=1, env=env) as running:
        yield running


def scrape(hub: RunningHub) -> dict[tuple[str, ...], float]:
    """Every sample: its name and the values of its labels, in the order of their names."""
    found: dict[tuple[str, ...], float] = {}
    for family in text_string_to_metric_families(hub.get("/metrics").body.decode()):
        for sample in family.samples:
            key = (sample.name, *(value for _, value in sorted(sample.labels.items())))
            assert key not in found, f"twice: {key}"
            found[key] = sample.value
    return found


async def settled(one: Peer, name: str, count: int, **params: Any) -> dict[str, Any]:
    """``metrics.get`` once it has so many calls of a method."""

    async def has_them() -> dict[str, Any] | None:
        said: dict[str, Any] = await one.result("metrics.get", params)
        return said if said["methods"].get(name, {}).get("count", 0) >= count else None

    return await until(has_them, f"{count} calls of {name}")


async def test_waiting_and_running_are_told_apart(hub: RunningHub) -> None:
    before = scrape(hub)
    async with peer(hub.url) as one:
        sleep = {"jsonrpc": "2.0", "method": "debug.sleep", "params": {"seconds": 0.3}}
        await one.send([sleep | {"id": number} for number in range(3)])  # a batch: all three come at once
        assert len(await one.receive()) == 3
        said = (await one.result("metrics.get"))["methods"]["debug.sleep"]
    after = scrape(hub)

    def grown(*key: str) -> float:
        return after[key] - before.get(key, 0)

    assert grown("trunkline_call_run_seconds_count", "debug.sleep") == 3
    assert grown("trunkline_call_wait_seconds_count", "debug.sleep") == 3
    assert grown("trunkline_call_run_seconds_sum", "debug.sleep") >= 0.89  # timers may come a moment early
    assert grown("trunkline_call_wait_seconds_sum", "debug.sleep") >= 0.8, "the second and third waited 0.3 and 0.6 s"
    whole = grown("trunkline_call_duration_seconds_sum", "debug.sleep")
    parts = sum(grown(f"trunkline_call_{part}_seconds_sum", "debug.sleep") for part in ("wait", "run"))
    assert parts <= whole + 0.001
    assert said["run_p50_ms"] >= 250
    assert said["wait_p99_ms"] >= 250
    assert grown("trunkline_call_params_bytes_total", "debug.sleep") == 3 * len('{"seconds": 0.3}')
    assert grown("trunkline_call_result_bytes_total", "debug.sleep") > 30


async def test_a_call_that_runs_out_of_time_in_the_queue_counts_as_waiting(hub: RunningHub) -> None:
    before = scrape(hub)
    async with peer(hub.url) as one:
        first = await one.request("debug.sleep", {"seconds": 30})
        late = await one.request("debug.echo", metadata={"timeout_ms": 200})
        assert (await one.reply(late))["error"]["data"]["maybe_executed"] is False
        await one.cancel(first)
        await one.reply(first)
    after = scrape(hub)
    key = ("trunkline_call_wait_seconds_sum", "debug.echo")
    assert after[key] - before.get(key, 0) >= 0.19
    assert after["trunkline_calls_total", "debug.echo", "COMMUNICATION_TIMEOUT"] >= 1


async def test_metrics_of_a_time_range(hub: RunningHub) -> None:
    async with peer(hub.url) as one:
        for _ in range(5):
            await one.result("lab.upper", {"text": "x"})
        said = await settled(one, "lab.upper", 5, time_range="1m", series=True)
        upper = said["methods"]["lab.upper"]
        assert (upper["count"], upper["success"], upper["errors"]) == (5, 5, {})
        assert 0 <= upper["p50_ms"] <= upper["p95_ms"] <= upper["p99_ms"] <= upper["max_ms"]
        assert 0 < said["window_seconds"] <= 61
        assert said["request_count"] == sum(method["count"] for method in said["methods"].values())
        assert sum(sample["calls"] for sample in said["series"]) == said["request_count"]
        assert said["series"] == sorted(said["series"], key=lambda sample: -sample["seconds_ago"])

        async def are_over() -> bool:
            return not (await one.result("metrics.get", {"time_range": 1}))["methods"].get("lab.upper")

        await until(are_over, "a second later they are not of the last second")
        for any_range in ("90s", "2m", "24h", "1.5h", "7d", 4000, 1e7):
            said = await one.result("metrics.get", {"time_range": any_range})
            assert said["methods"]["lab.upper"]["count"] >= 5, any_range
            assert said["window_seconds"] < 3600, "what the hub has"
        for wrong in ("2w", "m", "-5m", "", 0, [1]):
            assert (await one.error("metrics.get", {"time_range": wrong}))["code"] == -32602


async def test_calls_are_told_apart_by_executor(hub: RunningHub) -> None:
    async with peer(hub.url) as one:
        await one.result("debug.echo")  # after the ends of what others cancelled
        before = (await one.result("metrics.get"))["workers"]["executor-0"]
        await one.result("debug.sleep", {"seconds": 0.05})
        await one.error("debug.fail")
        after = (await one.result("metrics.get"))["workers"]["executor-0"]
        assert after["count"] - before["count"] == 2
        assert after["success"] - before["success"] == 1
        assert after["methods"]["debug.sleep"]["mean_ms"] >= 45  # timers may come a moment early
        assert after["methods"]["debug.fail"]["success"] == 0

        async def is_sampled() -> bool:
            worker = (await one.result("metrics.get", {"time_range": "1h"}))["workers"].get("executor-0", {})
            return bool(worker.get("count") == after["count"] and worker["success"] == after["success"])

        await until(is_sampled, "the samples have them, too")


async def test_streams_connections_and_transports(hub: RunningHub) -> None:
    async with peer(hub.url) as one:
        sockets = "trunkline_connections_by_transport", "websocket"
        await until(lambda: scrape(hub)[sockets] == 1, "those of other tests are closed")
        stream = await one.request("debug.count", {"n": 1_000_000, "interval_ms": 20})
        while (await one.receive()).get("method") != "stream_chunk":
            pass
        now = scrape(hub)
        assert now["trunkline_streams",] == 1
        assert now["trunkline_calls_in_flight",] >= 1
        assert now[sockets] == 1
        assert now["trunkline_connections",] >= 1
        assert now["trunkline_executors", "busy"] == 1
        await one.cancel(stream)
        await one.reply(stream)
    eventually(lambda: scrape(hub)["trunkline_streams",] == 0, "the stream is over")


async def test_events_and_sessions(hub: RunningHub) -> None:
    before = scrape(hub)
    async with peer(hub.url) as one:
        await one.result("session.open", {})
        await one.result("subscribe", {"topic": "metrics.test"})
        for number in range(4):
            await one.result("publish", {"topic": "metrics.test", "data": number})
        now = scrape(hub)
        assert now["trunkline_events_published_total",] - before["trunkline_events_published_total",] == 4
        assert now["trunkline_events_delivered_total",] - before["trunkline_events_delivered_total",] == 4
        assert now["trunkline_sessions", "attached"] == 1
        assert now["trunkline_subscriptions",] == 1
        await one.result("session.close", {})
    eventually(lambda: scrape(hub)["trunkline_sessions", "attached"] == 0, "it is closed")
    assert scrape(hub)["trunkline_sessions_ended_total", "closed"] >= 1


def test_restarts_by_cause(tmp_path: Path) -> None:
    marker = tmp_path / "stuck"
    with ready_hub(DEBUG_METHODS, "lab", cwd=MODULES, executors=1, env={"TRUNKLINE_KILL_AFTER": "0.3"}) as hub:

        async def kill() -> None:
            async with peer(hub.url) as one:
                assert (await one.error("debug.crash"))["code"] == 2001
                eventually(lambda: hub.get("/ready").status == 200, "it is back", START)
                stuck = await one.request("lab.stuck", {"marker": str(marker), "seconds": 30})
                eventually(marker.exists, "it runs")
                await one.cancel(stuck)
                await one.reply(stuck)

        asyncio.run(kill())
        cause = "trunkline_executor_restarts_by_cause_total"
        eventually(lambda: scrape(hub)[cause, "killed_by_hub"] == 1, "the hub has killed what was stuck")
        assert scrape(hub)[cause, "signal"] == 1
        assert scrape(hub)[cause, "exit"] == 0
        eventually(lambda: hub.get("/ready").status == 200, "it is back again", START)
