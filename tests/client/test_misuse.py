"""Calls that do not fit their method, listeners that change what they listen to, and clients that wait for no hub."""

from __future__ import annotations

import asyncio
import math
import traceback
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from tests.client.faults import QUICK
from tests.support.command import NO_HUB
from tests.support.hub import RunningHub
from tests.support.ports import reserved_port
from tests.support.timing import PATIENCE, until
from trunkline.client import (
    Closed,
    Connected,
    ConnectError,
    ConnectionState,
    Hub,
    Reconnect,
    UsageError,
    connect,
)
from trunkline.client.connection_state import Listeners
from trunkline.client.retrying import pause
from trunkline_protocol.errors import ErrorCode, RpcError


@pytest.fixture
async def hub(debug_hub: RunningHub) -> AsyncIterator[Hub]:
    async with connect(debug_hub.url, reconnect=QUICK) as connected:
        yield connected


async def test_a_stream_that_is_called_is_an_error_and_is_cancelled(hub: Hub) -> None:
    for n in (0, 3):
        with pytest.raises(UsageError, match=r"^debug\.count is a stream: use stream\(\)$"):
            await hub.call("debug.count", {"n": n})

    async def is_alone() -> bool:
        return bool((await hub.call("health.check"))["active_requests"] == 1)

    await until(is_alone, "nothing else runs")


async def test_a_method_that_is_streamed_and_is_none_is_an_error(hub: Hub) -> None:
    with pytest.raises(UsageError, match=r"^debug\.echo is no stream: use call\(\)"):
        async for _ in hub.stream("debug.echo", {"value": 1}):
            pass


async def test_the_result_alone_is_waited_for(hub: Hub) -> None:
    assert await hub.stream("debug.count", {"n": 1_000}).wait() == {"chunks": 1_000}
    chunks = hub.stream("debug.count", {"n": 2})
    with pytest.raises(UsageError, match=r"the result follows the last chunk: read all, or use wait\(\)"):
        print(chunks.result)
    assert [chunk.data["index"] async for chunk in chunks] == [0, 1]
    assert chunks.result == {"chunks": 2}


async def test_a_stream_may_be_awaited_first(hub: Hub) -> None:
    chunks = await hub.stream("debug.count", {"n": 2})
    assert [chunk.data["index"] async for chunk in chunks] == [0, 1]


async def test_errors_name_their_call_in_the_traceback(hub: Hub) -> None:
    with pytest.raises(RpcError) as called:
        await hub.call("debug.fail")
    with pytest.raises(RpcError) as streamed:
        await hub.stream("debug.fail").wait()
    for caught in (called, streamed):
        text = "".join(traceback.format_exception(caught.value))
        assert text.count("in the call of debug.fail (request ") == 1


def test_each_listener_hears_a_change_once_and_in_order() -> None:
    listeners = Listeners()
    heard: list[str] = []

    def closing(change: ConnectionState) -> None:
        heard.append(f"closing {change.state}")
        if change.state == "connected":
            listeners.tell(Closed(1000, ""))

    leave: list[Callable[[], None]] = []

    def again(change: ConnectionState) -> None:
        heard.append(f"again {change.state}")
        leave.pop()()
        leave.append(listeners.add(again))

    listeners.add(closing)
    leave.append(listeners.add(again))
    leave_other = listeners.add(lambda change: heard.append(f"other {change.state}"))
    listeners.add(lambda _change: leave_other())
    listeners.tell(Connected(resumed=False))
    assert heard == ["closing connected", "again connected", "other connected", "closing closed", "again closed"]


def test_nobody_is_away_for_more_than_twice_as_long_as_the_hub() -> None:
    policy = Reconnect()
    assert [pause(away, policy, lambda: 1.0) for away in (0.0, 0.4, 1.5, 60.0)] == [0.5, 0.5, 1.5, 20.0]


async def test_a_wait_ends_when_it_may_not_be_longer() -> None:
    begun = asyncio.get_running_loop().time()
    with reserved_port() as port, pytest.raises(ConnectError) as caught:
        await connect(f"ws://user:secret@127.0.0.1:{port}/ws?key=secret", wait=0.2, reconnect=QUICK)
    assert asyncio.get_running_loop().time() - begun >= 0.2
    assert str(caught.value).startswith(f"cannot connect to ws://127.0.0.1:{port}/ws: ")
    assert isinstance(caught.value.__cause__, OSError)
    assert "secret" not in str(caught.value)


@pytest.mark.virtual_time
async def test_what_a_token_function_raises_is_the_cause() -> None:
    asked = 0

    def token() -> str:
        nonlocal asked
        asked += 1
        raise LookupError("the vault is away")

    with pytest.raises(ConnectError, match="the token's function failed: LookupError: the vault is away"):
        await connect(NO_HUB, token=token, wait=0.1, reconnect=QUICK)
    assert asked > 1


async def test_a_path_without_a_hub_is_not_waited_for(debug_hub: RunningHub) -> None:
    with pytest.raises(ConnectError, match=r"no WebSocket endpoint at '/wss'; this hub has /ws") as caught:
        await asyncio.wait_for(_connected(debug_hub.url + "s", wait=math.inf), PATIENCE)
    assert caught.value.error is not None
    assert (caught.value.status, caught.value.error.code) == (404, ErrorCode.METHOD_NOT_FOUND)


async def _connected(url: str, **options: Any) -> None:
    await connect(url, **options)
