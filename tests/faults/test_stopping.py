"""Fault 24: the hub is asked to stop, or killed, with work in flight."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import pytest

from tests.support.hub import DEBUG_METHODS, MODULES, HttpAnswer, RunningHub, ready_hub
from tests.support.match import require
from tests.support.peer import Peer, peer
from tests.support.timing import PATIENCE
from trunkline.edge.context import CLOSE_STEP, EdgeContext
from trunkline.hosting.lifecycle import EXECUTOR_STOP_GRACE
from trunkline_protocol.errors import ErrorCode

PATIENT: Final = {"TRUNKLINE_DRAIN_SECONDS": "600", "TRUNKLINE_CLOSE_SECONDS": "600"}
"""Of a hub that would wait longer than any test, where there is something to wait for."""


def seconds_between(first: dict[str, Any], then: dict[str, Any]) -> float:
    """Of two lines of the log."""
    at, after = (datetime.fromisoformat(line["timestamp"]) for line in (first, then))
    return (after - at).total_seconds()


def refused_or(hub: RunningHub, path: str) -> HttpAnswer | None:
    try:
        return hub.get(path)
    except ConnectionError:
        return None


async def is_draining(connection: Peer) -> None:
    async with asyncio.timeout(PATIENCE):
        while (await connection.result("health.check"))["status"] != "stopping":
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_fault_24_work_in_flight_finishes(number: signal.Signals, tmp_path: Path) -> None:
    """What runs, a stream, and what a running method calls while the hub takes nothing new any more."""
    held = {"folder": str(tmp_path), "count": 1, "hold_at": 0}
    with ready_hub(DEBUG_METHODS, "labours", "lab", cwd=MODULES, env=PATIENT) as hub:
        async with peer(hub.url) as connection:
            running = await connection.request("labours.steps", held)
            nested = await connection.request("debug.call", {"method": "debug.call", "params": {
                "method": "labours.steps", "params": held | {"count": 2, "hold_at": 1}}})  # fmt: skip
            late = await connection.request("lab.calls_later", {"folder": str(tmp_path), "method": "debug.echo"})
            stream = await connection.request("debug.count", {"n": 5, "interval_ms": 150})
            await connection.receive()
            hub.process.send_signal(number)
            await is_draining(connection)
            ready = refused_or(hub, "/ready")
            assert ready is None or (ready.status, ready.json()["ready"]) == (503, False)
            require(
                {"code": ErrorCode.WORKER_UNAVAILABLE, "data": {"maybe_executed": False, "retryable": True}},
                await connection.error("debug.echo", {"value": 1}),
            )
            (tmp_path / "go").touch()
            require({"result": {"chunks": 5}}, await connection.reply(stream))
            require({"result": {"steps": 1}}, await connection.reply(running))
            require({"result": {"steps": 2}}, await connection.reply(nested))
            require({"result": "called while it stopped"}, await connection.reply(late))
            assert await connection.close_code() == 1012
            await asyncio.to_thread(hub.wait_ended, 0)


@pytest.mark.parametrize("method", ["debug.sleep", "debug.spin"])
async def test_fault_24_what_takes_too_long_ends_in_an_error(method: str) -> None:
    with ready_hub(env={"TRUNKLINE_DRAIN_SECONDS": "0.3"}) as hub:
        async with peer(hub.url) as connection:
            running = await connection.request(method, {"seconds": 60})
            await connection.result("rpc.ping")
            hub.process.terminate()
            error = (await connection.reply(running))["error"]
            assert error["code"] in (ErrorCode.WORKER_CRASHED, ErrorCode.WORKER_UNAVAILABLE)
            assert error["data"]["maybe_executed"] is True
            assert await connection.close_code() == 1012
            await asyncio.to_thread(hub.wait_ended, 0)
            killings = [json.loads(line) for line in hub.stderr if "did not stop in time" in line]
            assert bool(killings) == (method == "debug.spin"), "a coroutine is cancelled, its executor ends in order"
            stopping = next(json.loads(line) for line in hub.stderr if '"event": "stopping"' in line)
            for killing in killings:
                assert seconds_between(stopping, killing) < EXECUTOR_STOP_GRACE, "they had their time: 0.3 s"


async def test_fault_24_calls_that_still_wait_are_answered() -> None:
    env = {"TRUNKLINE_DRAIN_SECONDS": "0.2", "TRUNKLINE_MAX_CONCURRENCY": "1"}
    with ready_hub(env=env) as hub:
        async with peer(hub.url) as connection:
            await connection.result("debug.sleep", {"seconds": 0.1})
            calls = [await connection.request("debug.sleep", {"seconds": 60}) for _ in range(3)]
            await connection.result("rpc.ping")
            hub.process.terminate()
            errors = [(await connection.reply(each))["error"] for each in calls]
            assert {error["code"] for error in errors} <= {ErrorCode.WORKER_CRASHED, ErrorCode.WORKER_UNAVAILABLE}
            assert [error["data"]["maybe_executed"] for error in errors] == [True, False, False]
            await asyncio.to_thread(hub.wait_ended, 0)


async def test_fault_24_peers_that_do_not_answer_the_close_do_not_hold_it() -> None:
    with ready_hub() as hub:
        reader, writer = await asyncio.open_connection("127.0.0.1", hub.port)
        writer.write(
            b"GET /ws HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        await reader.readuntil(b"\r\n\r\n")
        await asyncio.to_thread(hub.stop)  # which waits 20 s for its end
        writer.close()


async def test_fault_24_sigkill_of_the_hub_takes_the_executors_along() -> None:
    """One of them holds its interpreter's lock, the other waits."""
    with ready_hub(executors=2) as hub:
        async with peer(hub.url) as connection:
            for method in ("debug.spin", "debug.sleep"):
                await connection.request(method, {"seconds": 60})
            await connection.result("rpc.ping")
            assert len(hub.executor_pids()) == 2
            hub.process.kill()
            assert await connection.close_code() == 1006
        await asyncio.to_thread(hub.wait_ended, -signal.SIGKILL)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_fault_24_the_second_signal_stops_at_once(number: signal.Signals) -> None:
    with ready_hub(env=PATIENT) as hub:
        async with peer(hub.url) as connection:
            await connection.request("debug.sleep", {"seconds": 60})
            hub.process.send_signal(number)
            await is_draining(connection)
            hub.process.send_signal(number)
            assert await connection.close_code() == 1006
            await asyncio.to_thread(hub.wait_ended, 130)


def test_fault_24_ctrl_c_in_a_terminal_stops_an_idle_hub_at_once_and_leaves_no_traceback() -> None:
    """A terminal sends SIGINT to the whole group; executors have groups of their own and leave it to the hub."""
    with ready_hub(env=PATIENT) as hub:
        groups = {os.getpgid(pid) for pid in hub.executor_pids()}
        assert os.getpgid(hub.process.pid) not in groups
        hub.stop(signal.SIGINT)
        assert "Traceback" not in hub.words
        assert not [line for line in hub.stderr if "did not stop in time" in line], "nothing was waited for"


@pytest.mark.virtual_time
async def test_closes_are_spread_over_time_the_oldest_first() -> None:
    closed: list[tuple[int, float]] = []
    loop = asyncio.get_running_loop()

    class Listener:
        def __init__(self, number: int) -> None:
            self._number = number

        def close(self, code: int, reason: str) -> None:
            assert (code, reason) == (1012, "stopping")
            closed.append((self._number, loop.time()))

    edge = EdgeContext.__new__(EdgeContext)  # nothing but its listeners is asked for
    edge.listeners = {Listener(number): None for number in range(120)}  # type: ignore[misc]  # only close is called
    await edge.close_all(1012, "stopping", 1.0)
    assert [number for number, _ in closed] == [*range(120)], "the oldest first"
    moments = [at for _, at in closed]
    for first, last in ((49, 50), (99, 100)):
        assert moments[last] - moments[first] > CLOSE_STEP * 0.9, "fifty at a time, 20 ms apart"
    closed.clear()
    edge.listeners = {Listener(number): None for number in range(5000)}  # type: ignore[misc]
    await edge.close_all(1012, "stopping", 0.1)
    assert len(closed) == 5000
    portions = {round(at, 4) for _, at in closed[::1000]}
    assert len(portions) == 5, "more at a time where there are more: a thousand each"


def test_hangup_of_a_terminal_stops_it() -> None:
    """A service reads its files again at SIGHUP; what runs in a terminal that was closed ends."""
    import pty

    leader, follower = pty.openpty()
    try:
        with RunningHub(stdin=follower) as hub:
            hub.ready()
            hub.process.send_signal(signal.SIGHUP)
            hub.wait_ended(0)
    finally:
        os.close(leader)
        os.close(follower)


async def test_hangup_of_a_service_leaves_it_running() -> None:
    with ready_hub() as hub:
        async with peer(hub.url) as connection:
            hub.process.send_signal(signal.SIGHUP)
            await asyncio.to_thread(hub.wait_for, "reloaded")
            assert await connection.result("debug.echo", {"value": 1}) == 1
