"""The synchronous client: from a script, from threads, interrupted, in a notebook's loop."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.hub import RunningHub
from tests.support.timing import eventually
from trunkline import SyncHub, connect_sync
from trunkline.client import ConnectError, Event, UsageError
from trunkline_protocol.errors import RpcError


@pytest.fixture
def hub(debug_hub: RunningHub) -> Iterator[SyncHub]:
    with connect_sync(debug_hub.url) as connected:
        yield connected
    assert connected.connection_state == "closed"


def test_calls_streams_and_errors(hub: SyncHub) -> None:
    assert hub.call("debug.echo", {"value": 1}, timeout_ms=10_000) == 1
    chunks = hub.stream("debug.count", {"n": 3})
    assert [chunk.data["index"] for chunk in chunks] == [0, 1, 2]
    assert chunks.result == {"chunks": 3}
    assert hub.stream("debug.count", {"n": 500}).wait() == {"chunks": 500}
    with pytest.raises(RpcError, match=r"debug\.fail failed"):
        hub.call("debug.fail")
    with pytest.raises(UsageError):
        hub.call("debug.count", {"n": 1})
    hub.notify("debug.echo", {"value": 1})


def test_leaving_a_stream_cancels_it(hub: SyncHub) -> None:
    for chunk in hub.stream("debug.count", {"n": 10_000_000, "interval_ms": 1}):
        assert chunk.index == 0
        break
    eventually(lambda: hub.call("health.check")["active_requests"] == 1, "nothing else runs")


def test_events(hub: SyncHub) -> None:
    with hub.subscribe("sync.*") as events:
        position = hub.publish("sync.a", {"n": 1})
        event = next(events)
        assert isinstance(event, Event)
        assert (event.topic, event.data, event.offset) == ("sync.a", {"n": 1}, position.offset)


def test_many_threads_share_a_connection(hub: SyncHub) -> None:
    with ThreadPoolExecutor(16) as pool:
        values = list(pool.map(lambda n: hub.call("debug.echo", {"value": n}), range(200)))
    assert values == list(range(200))


async def test_a_notebook_whose_loop_runs_already_may_use_it(debug_hub: RunningHub) -> None:
    assert asyncio.get_running_loop().is_running()
    with connect_sync(debug_hub.url) as hub:
        assert hub.call("debug.echo", {"value": 2}) == 2


def test_what_would_wait_for_its_own_loop_is_told(hub: SyncHub, debug_hub: RunningHub) -> None:
    def token() -> str:
        return str(hub.call("rpc.ping"))

    with pytest.raises(ConnectError, match="waits for its own loop: use the asynchronous client in it"):
        connect_sync(debug_hub.url, token=token)


def test_no_hub_is_the_same_error_as_elsewhere() -> None:
    with pytest.raises(ConnectError):
        connect_sync("ws://127.0.0.1:9/ws")
