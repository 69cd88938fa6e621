"""How a client gets its connection: at first, and after a cut, with tokens that do not last."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator

import pytest

from tests.client.faults import QUICK, Changes, through_proxy
from tests.support.hub import RunningHub
from tests.support.ports import reserved_port
from tests.support.timing import PATIENCE
from trunkline.client import AuthenticationError, ConnectError, DisconnectedError, Reconnect, connect

TOKEN = "the-right-token-of-this-test-0123456789"


@pytest.fixture(scope="module")
def guarded() -> Iterator[RunningHub]:
    with RunningHub(("trunkline.methods.debug",), env={"TRUNKLINE_TOKEN": TOKEN}) as hub:
        yield hub.ready()


async def test_awaited_it_lasts_until_it_is_closed(lab_hub: RunningHub) -> None:
    hub = await connect(lab_hub.url)
    assert await hub.call("debug.echo", {"value": 1}) == 1
    await hub.close()
    assert (await hub.closed).code == 1000
    with pytest.raises(DisconnectedError):
        await hub.call("debug.echo", {"value": 1})


async def test_one_that_was_made_may_be_used_once_more(lab_hub: RunningHub) -> None:
    connection = connect(lab_hub.url)
    for value in range(2):
        async with connection as hub:
            assert await hub.call("debug.echo", {"value": value}) == value


@pytest.fixture
def port() -> Iterator[int]:
    """Where nobody listens but who the test starts."""
    with reserved_port() as number:
        yield number


async def test_a_hub_that_is_not_there_yet_is_waited_for(port: int) -> None:
    url = f"ws://127.0.0.1:{port}/ws"
    with pytest.raises(ConnectError):
        await connect(url)
    with pytest.raises(ConnectError):
        await connect(url, wait=0.2, reconnect=Reconnect(0.05, 0.05))
    waiting = asyncio.create_task(_first_echo(url))
    await asyncio.sleep(0)
    with RunningHub(("trunkline.methods.debug",), arguments=("--port", str(port))) as hub:
        await asyncio.to_thread(hub.ready)
        assert await asyncio.wait_for(waiting, PATIENCE) == "there"


async def _first_echo(url: str) -> str:
    async with connect(url, wait=math.inf, reconnect=QUICK) as hub:
        return str(await hub.call("debug.echo", {"value": "there"}))


async def test_a_wait_can_be_cancelled(port: int) -> None:
    waiting = asyncio.create_task(_first_echo(f"ws://127.0.0.1:{port}/ws"))
    await asyncio.sleep(0.1)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_a_hub_that_refuses_the_first_token_is_not_waited_for(guarded: RunningHub) -> None:
    with pytest.raises(ConnectError):
        await asyncio.wait_for(connect(guarded.url, token="wrong", wait=math.inf)._open(), PATIENCE)


async def test_a_token_that_was_stale_once_is_asked_for_again(guarded: RunningHub) -> None:
    given = [TOKEN, "stale", "stale", TOKEN]

    def token() -> str:
        return given.pop(0)

    async with through_proxy(guarded.port, token=token) as (proxy, hub):
        changes = Changes(hub)
        proxy.cut()
        await changes.wait_for("connected")
        assert await hub.call("debug.echo", {"value": 1}) == 1
    assert not given


async def test_a_function_without_a_token_ends_the_client(guarded: RunningHub) -> None:
    given = [TOKEN]

    async def token() -> str:
        if not given:
            raise AuthenticationError("signed out")
        return given.pop()

    async with through_proxy(guarded.port, token=token) as (proxy, hub):
        proxy.cut()
        closed = await asyncio.wait_for(hub.closed, PATIENCE)
    assert (closed.code, closed.reason) == (4501, "signed out")
    with pytest.raises(AuthenticationError):
        await connect(guarded.url, token=token)


async def test_a_fixed_token_that_is_refused_ends_the_client(guarded: RunningHub) -> None:
    with RunningHub(("trunkline.methods.debug",), env={"TRUNKLINE_TOKEN": "another-token-0123456789abcdef"}) as other:
        other.ready()
        async with through_proxy(guarded.port, token=TOKEN) as (proxy, hub):
            proxy.target_port = other.port
            proxy.cut()
            closed = await asyncio.wait_for(hub.closed, PATIENCE)
        assert closed.code == 4501
        assert "403" in closed.reason
