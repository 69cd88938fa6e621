"""Calls with a key whose hub is killed after it ran them: they never run twice, and their caller is told."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.client.faults import QUICK, Changes
from tests.support.hub import DEBUG_METHODS, MODULES, RunningHub
from tests.support.match import require
from tests.support.peer import peer
from tests.support.ports import reserved_port
from tests.support.timing import PATIENCE, eventually
from trunkline.client import DisconnectedError, Retry, connect
from trunkline_protocol.errors import ErrorCode, RpcError

PATIENT = Retry(attempts=100, base_delay=0.05, factor=1)
"""The next hub has to start first."""
EPOCH: dict[str, Any] = {"code": ErrorCode.WORKER_CRASHED, "data": {"maybe_executed": True, "idempotency": "epoch"}}


def lab(port: int = 0, data: Path | None = None) -> RunningHub:
    """A hub that the test kills; ``data`` is the folder that outlives it."""
    arguments = ["--port", str(port), *(() if data is None else ("--data", str(data)))]
    return RunningHub((DEBUG_METHODS, "lab"), cwd=MODULES, arguments=arguments).__enter__().ready()


async def runs(marker: Path) -> None:
    """Wait until the method has run so far that it has left its letter."""
    await asyncio.to_thread(eventually, lambda: marker.exists() and marker.read_text() == "x", "it runs")


@pytest.fixture
def port() -> Iterator[int]:
    """Of one hub after the other, and nobody else."""
    with reserved_port() as number:
        yield number


async def killed(hub: RunningHub) -> None:
    hub.executor_pids()
    hub.process.send_signal(signal.SIGKILL)
    await asyncio.to_thread(hub.wait_ended, -9)


async def test_a_keyed_call_of_a_killed_hub_runs_once_and_its_caller_is_told(tmp_path: Path, port: int) -> None:
    marker = tmp_path / "runs"
    first = await asyncio.to_thread(lab, port)
    second: RunningHub | None = None
    try:
        async with connect(first.url, retry=PATIENT, reconnect=QUICK) as client, asyncio.timeout(6 * PATIENCE):
            params = {"marker": str(marker)}
            call = asyncio.create_task(client.call("lab.counted_wait", params, idempotency_key="k"))
            await runs(marker)
            await killed(first)
            second = await asyncio.to_thread(lab, port)
            with pytest.raises(RpcError) as caught:
                await call
            require(EPOCH, caught.value.to_wire())
            assert marker.read_text() == "x"
            counted = await client.call("lab.counted_run", params, idempotency_key="k")
            assert (counted, marker.read_text()) == ("done", "xx"), "a call that is no repetition runs"
    finally:
        first.discard()
        if second is not None:
            second.discard()


async def test_without_a_session_nobody_told_the_epoch_and_nothing_is_repeated(tmp_path: Path, port: int) -> None:
    marker = tmp_path / "runs"
    first = await asyncio.to_thread(lab, port)
    second: RunningHub | None = None
    try:
        async with connect(first.url, retry=PATIENT, reconnect=QUICK, session=False) as client:
            changes = Changes(client)
            call = asyncio.create_task(client.call("lab.counted_wait", {"marker": str(marker)}, idempotency_key="k"))
            await runs(marker)
            await killed(first)
            second = await asyncio.to_thread(lab, port)
            with pytest.raises(DisconnectedError) as caught:
                await asyncio.wait_for(call, PATIENCE)
            assert caught.value.maybe_executed
            await changes.wait_for("connected")
            assert marker.read_text() == "x"
    finally:
        first.discard()
        if second is not None:
            second.discard()


async def test_a_repetition_to_another_run_is_refused_but_for_idempotent_methods_and_jobs(tmp_path: Path) -> None:
    marker, data = tmp_path / "runs", tmp_path / "data"
    first = await asyncio.to_thread(lab, 0, data)
    second: RunningHub | None = None
    keyed = {"idempotency_key": "k"}
    job = {"method": "debug.echo", "params": {"value": 1}}
    try:
        async with peer(first.url) as before:
            epoch = (await before.result("rpc.ping"))["idempotency_epoch"]
            opened = await before.result("jobs.create", job, metadata=keyed)
            position = await before.result("publish", {"topic": "t", "data": 1, **keyed})
            again = await before.result(
                "publish", {"topic": "t", "data": 1, **keyed}, metadata={"idempotency_epoch": epoch}
            )
            assert again == position, "the hub that knows the key answers"
        await killed(first)
        second = await asyncio.to_thread(lab, 0, data)
        repeated = {**keyed, "idempotency_epoch": epoch}
        async with peer(second.url) as after:
            require(EPOCH, await after.error("lab.counted_run", {"marker": str(marker)}, metadata=repeated))
            event = {"topic": "t", "data": 1, **keyed}
            require(EPOCH, await after.error("publish", event, metadata={"idempotency_epoch": epoch}))
            assert await after.result("lab.upper", {"text": "a"}, metadata=repeated) == "A", "idempotent"
            assert (await after.result("jobs.create", job, metadata=repeated))["id"] == opened["id"], "jobs are kept"
            assert not marker.exists()
            assert (await after.result("publish", event))["offset"] == 1, "nothing was published before"
    finally:
        first.discard()
        if second is not None:
            second.discard()
