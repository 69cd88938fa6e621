"""Fault 27: the wall clock jumps. Deadlines, expiries and ages go by the monotonic clock."""

from __future__ import annotations

import asyncio
import glob
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.health import heard_health
from tests.support.hub import RunningHub, ready_hub
from tests.support.peer import Peer, peer
from tests.support.timing import SCALE
from trunkline_protocol.errors import ErrorCode

HOUR = 3600


class Clock:
    """The wall clock of a hub, set through libfaketime's file."""

    def __init__(self, folder: Path, library: str) -> None:
        self._file = folder / "clock"
        self._library = library
        self.jump(0)

    def jump(self, seconds: int) -> None:
        """From now on the hub's wall clock is this far off."""
        fresh = self._file.with_suffix(".new")
        fresh.write_text(f"{seconds:+d}\n")
        os.replace(fresh, self._file)

    @property
    def env(self) -> dict[str, str]:
        return {
            "LD_PRELOAD": self._library,
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }


@pytest.fixture
def clock(tmp_path: Path) -> Clock:
    found = glob.glob("/usr/lib/*/faketime/libfaketime.so.1")
    if not found:
        message = "libfaketime is missing: make deps-debian, or your system's package faketime"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return Clock(tmp_path, found[0])


@pytest.fixture
def hub(clock: Clock) -> Iterator[RunningHub]:
    with ready_hub(env=clock.env, executors=1) as running:
        yield running


async def wall_clock(connection: Peer) -> float:
    return float((await connection.result("rpc.ping"))["time_ms"]) / 1000


@pytest.mark.parametrize("jump", [HOUR, -HOUR])
async def test_fault_27_deadlines_do_not_move(hub: RunningHub, clock: Clock, jump: int) -> None:
    async with peer(hub.url) as connection:
        assert abs(await wall_clock(connection) - time.time()) < 5 * SCALE
        started = time.monotonic()
        patient = await connection.request("debug.sleep", {"seconds": 1}, metadata={"timeout_ms": 60_000})
        hasty = await connection.request("debug.sleep", {"seconds": 30}, metadata={"timeout_ms": 700})
        clock.jump(jump)
        assert abs(await wall_clock(connection) - time.time() - jump) < 5 * SCALE, "the clock did jump"
        error = (await connection.reply(hasty))["error"]
        assert error["code"] == ErrorCode.COMMUNICATION_TIMEOUT
        assert time.monotonic() - started > 0.6
        assert (await connection.reply(patient))["result"]["slept"] == 1
        await asyncio.sleep(0.3)  # a look of the watchdog, at which nobody is to be killed
        health = await heard_health(connection)
        assert health["status"] == "healthy"
        assert [executor["restarts"] for executor in health["executors"]] == [0], "nobody was taken for stuck"


async def test_fault_27_history_does_not_age_by_the_wall_clock(hub: RunningHub, clock: Clock) -> None:
    async with peer(hub.url) as connection:
        first = await connection.result("publish", {"topic": "a", "data": 1})
        await connection.result("publish", {"topic": "a", "data": 2})
        clock.jump(24 * HOUR)
        recover = {"epoch": first["epoch"], "offset": first["offset"]}
        assert (await connection.result("subscribe", {"topic": "a", "recover": recover}))["recovered"] is True
        assert (await connection.receive())["params"]["data"] == 2
