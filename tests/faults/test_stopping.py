"""Fault 24: the hub is asked to stop, or killed, with work in flight."""

from __future__ import annotations

import asyncio
import os
import signal
import time

import pytest

from tests.support.hub import HttpAnswer, RunningHub, ready_hub
from tests.support.match import require
from tests.support.peer import Peer, peer
from tests.support.timing import PATIENCE, SCALE, SOON
from trunkline_protocol.errors import ErrorCode


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
async def test_fault_24_work_in_flight_finishes(number: signal.Signals) -> None:
    with ready_hub() as hub:
        async with peer(hub.url) as connection:
            running = await connection.request("debug.sleep", {"seconds": 1})
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
            require({"result": {"chunks": 5}}, await connection.reply(stream))
            require({"result": {"slept": 1}}, await connection.reply(running))
            assert await connection.close_code() == 1012
            await asyncio.to_thread(hub.wait_ended, 0)


async def test_fault_24_calls_that_running_methods_make_still_run() -> None:
    with ready_hub() as hub:
        async with peer(hub.url) as connection:
            params = {"method": "debug.call", "params": {"method": "debug.sleep", "params": {"seconds": 0.5}}}
            nested = await connection.request("debug.call", params)
            await connection.result("debug.echo", {"value": 1})
            hub.process.terminate()
            require({"result": {"slept": 0.5}}, await connection.reply(nested))
            await asyncio.to_thread(hub.wait_ended, 0)


@pytest.mark.parametrize("method", ["debug.sleep", "debug.spin"])
async def test_fault_24_what_takes_too_long_ends_in_an_error(method: str) -> None:
    with ready_hub(env={"TRUNKLINE_DRAIN_SECONDS": "0.3"}) as hub:
        async with peer(hub.url) as connection:
            running = await connection.request(method, {"seconds": 60})
            await connection.result("rpc.ping")
            started = time.monotonic()
            hub.process.terminate()
            error = (await connection.reply(running))["error"]
            assert error["code"] in (ErrorCode.WORKER_CRASHED, ErrorCode.WORKER_UNAVAILABLE)
            assert error["data"]["maybe_executed"] is True
            assert await connection.close_code() == 1012
            await asyncio.to_thread(hub.wait_ended, 0)
            assert time.monotonic() - started < 4 * SCALE


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


def test_fault_24_idle_it_stops_at_once() -> None:
    with ready_hub() as hub:
        started = time.monotonic()
        hub.stop()
        assert time.monotonic() - started < 2 * SCALE


async def test_fault_24_peers_that_do_not_answer_the_close_do_not_hold_it() -> None:
    with ready_hub() as hub:
        reader, writer = await asyncio.open_connection("127.0.0.1", hub.port)
        writer.write(
            b"GET /ws HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        await reader.readuntil(b"\r\n\r\n")
        started = time.monotonic()
        await asyncio.to_thread(hub.stop)
        assert time.monotonic() - started < 6 * SCALE
        writer.close()


@pytest.mark.parametrize("method", ["debug.sleep", "debug.spin"])
async def test_fault_24_sigkill_of_the_hub_takes_the_executors_along(method: str) -> None:
    with ready_hub(executors=2) as hub:
        async with peer(hub.url) as connection:
            await connection.request(method, {"seconds": 60})
            await connection.result("rpc.ping")
            assert len(hub.executor_pids()) == 2
            hub.process.kill()
            assert await connection.close_code() == 1006
        await asyncio.to_thread(hub.wait_ended, -signal.SIGKILL)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_fault_24_the_second_signal_stops_at_once(number: signal.Signals) -> None:
    with ready_hub() as hub:
        async with peer(hub.url) as connection:
            await connection.request("debug.sleep", {"seconds": 60})
            hub.process.send_signal(number)
            await is_draining(connection)
            started = time.monotonic()
            hub.process.send_signal(number)
            assert await connection.close_code() == 1006
            await asyncio.to_thread(hub.wait_ended, 130)
            assert time.monotonic() - started < SOON


def test_fault_24_ctrl_c_in_a_terminal_leaves_no_traceback() -> None:
    """A terminal sends SIGINT to the whole group; executors have groups of their own and leave it to the hub."""
    with ready_hub() as hub:
        groups = {os.getpgid(pid) for pid in hub.executor_pids()}
        assert os.getpgid(hub.process.pid) not in groups
        hub.stop(signal.SIGINT)
        assert "Traceback" not in hub.words


async def test_closes_are_spread_over_time_the_oldest_first() -> None:
    with ready_hub(env={"TRUNKLINE_CLOSE_SECONDS": "1"}) as hub:
        closed: list[tuple[float, int]] = []

        async def stay(number: int, connected: asyncio.Event) -> None:
            async with peer(hub.url) as connection:
                connected.set()
                assert await connection.close_code(3 * PATIENCE) == 1012
                closed.append((time.monotonic(), number))

        staying = []
        for number in range(300):
            connected = asyncio.Event()
            staying.append(asyncio.create_task(stay(number, connected)))
            await connected.wait()
        hub.process.terminate()
        await asyncio.gather(*staying)
        await asyncio.to_thread(hub.wait_ended, 0)
        moments = sorted(moment for moment, _ in closed)
        assert moments[-1] - moments[0] > 0.08, "300 connections, fifty at a time, 20 ms apart"
        order = [number for _, number in sorted(closed)]
        assert sum(order[:100]) / 100 < 100 < sum(order[-100:]) / 100, "the oldest first"


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
