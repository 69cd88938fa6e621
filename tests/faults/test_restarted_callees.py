"""FAULTS 58: a service that clients call is restarted under load, with real processes; no call fails."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from asyncio.subprocess import PIPE, Process
from collections import Counter
from pathlib import Path
from typing import Any, Final

import pytest

from tests.faults.recorder.node import missing_for_node
from tests.support.hub import RunningHub
from tests.support.peer import peer
from tests.support.timing import PATIENCE, SCALE

SERVICE: Final = Path(__file__).with_name("restarted_callee.mjs")
CALLS, RESTARTS, CALLERS = 1_000, 4, 4

pytestmark = pytest.mark.timeout(60 + 12 * PATIENCE)


async def started(url: str) -> Process:
    process = await asyncio.create_subprocess_exec("node", str(SERVICE), url, stdout=PIPE)
    assert process.stdout is not None
    assert await asyncio.wait_for(process.stdout.readline(), PATIENCE) == b"serves\n"
    return process


class Callers:
    """Callers of the service, none of which tries anything twice."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.made = 0
        self.failed: Counter[str] = Counter()
        self.slowest = 0.0
        self.stopping = False

    async def run(self) -> None:
        async with peer(self._url) as connection:
            while not self.stopping or self.made < CALLS:
                self.made += 1
                n, began = self.made, time.monotonic()
                reply = await connection.call("service.work", {"n": n}, within=3 * PATIENCE)
                self.slowest = max(self.slowest, time.monotonic() - began)
                if reply.get("result") != n:
                    self.failed[str(reply.get("error", reply))] += 1


async def restart(url: str, process: Process) -> Process:
    """End the service as systemd or Kubernetes does, and start it anew."""
    process.send_signal(signal.SIGTERM)
    assert await asyncio.wait_for(process.wait(), PATIENCE) == 0
    return await started(url)


async def test_a_service_that_drains_and_comes_back_loses_no_call() -> None:
    if (missing := missing_for_node()) is not None:
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
    env = {"TRUNKLINE_CALLEE_GRACE": str(30 * SCALE)}
    with RunningHub(("trunkline.methods.debug",), env=env) as hub:
        hub.ready()
        process = await started(hub.url)
        callers = Callers(hub.url)
        work: Any = asyncio.gather(*(callers.run() for _ in range(CALLERS)))
        try:
            for _ in range(RESTARTS):
                await asyncio.sleep(0.3)  # it serves for a while
                process = await restart(hub.url, process)
            callers.stopping = True
            await work
        finally:
            work.cancel()
            if process.returncode is None:
                process.kill()
                await process.wait()
    assert not callers.failed
    assert callers.made >= CALLS
    assert callers.slowest < 10 * SCALE, "nobody waits longer than the service was away"
