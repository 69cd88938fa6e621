"""Methods that are served by another client, or the same one, after the first has left: drained, or cut off."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.client.faults import Changes, through_proxy
from tests.client.test_serving import began
from tests.support.hub import RunningHub
from tests.support.timing import PATIENCE
from trunkline.client import Retry, ServedCall, connect


async def test_one_that_drains_waits_for_its_calls_and_others_for_its_successor(lab_hub: RunningHub) -> None:
    finish, running = asyncio.Event(), asyncio.Event()

    async def work(_params: Any, _call: ServedCall) -> str:
        running.set()
        await finish.wait()
        return "first"

    async def successor(_params: Any, _call: ServedCall) -> str:
        return "second"

    async with connect(lab_hub.url) as callee, connect(lab_hub.url) as caller:
        registration = await callee.register("serve.drained", work)
        call = asyncio.create_task(caller.call("serve.drained"))
        await began(running)
        drained = asyncio.create_task(registration.unregister(drain=True))
        for _ in range(2):  # it is written while the first one is answered, and read before the second
            await callee.call("rpc.ping")
        late = asyncio.create_task(caller.call("serve.drained"))
        await caller.call("debug.echo", {"value": 1})
        assert not drained.done()
        finish.set()
        assert await asyncio.wait_for(call, PATIENCE) == "first"
        await asyncio.wait_for(drained, PATIENCE)
        async with connect(lab_hub.url) as other:
            await other.register("serve.drained", successor)
            assert await asyncio.wait_for(late, PATIENCE) == "second"


async def test_all_methods_come_back_where_the_hub_takes_only_some_of_them_at_a_time(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def work(_params: Any, call: ServedCall) -> str:
        return "served"

    names = [f"serve.many.{n}" for n in range(24)]
    patient = Retry(attempts=30)
    env = {"TRUNKLINE_RATE_LIMIT": "10", "TRUNKLINE_RATE_BURST": "10", "TRUNKLINE_CALLEE_GRACE": "60"}
    with RunningHub(("trunkline.methods.debug",), env=env) as hub:
        hub.ready()
        async with through_proxy(hub.port, session=False, retry=patient) as (proxy, callee):
            changes = Changes(callee)
            for name in names:
                await callee.register(name, work)
            proxy.cut()
            await changes.wait_for("reconnecting")
            await changes.wait_for("connected")
            async with connect(hub.url, retry=patient) as other:
                for name in names:
                    assert await asyncio.wait_for(other.call(name), 3 * PATIENCE) == "served"
    assert "not served any more" not in caplog.text
