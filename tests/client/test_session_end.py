"""What becomes of everything when the session does not go on, or there is none."""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.client.faults import Changes, through_proxy
from tests.client.scripted_memory import client_in_memory
from tests.support.hub import DEBUG_METHODS, MODULES, RunningHub, ready_hub
from tests.support.proxy import Proxy
from tests.support.timing import PATIENCE, eventually, until
from trunkline.client import (
    AuthenticationError,
    Closed,
    CloseInfo,
    Connected,
    DisconnectedError,
    Event,
    Gap,
    Hub,
    Reconnect,
    connect,
)
from trunkline.edge.access.tokens import new_token
from trunkline_protocol.errors import RpcError

LAB = (DEBUG_METHODS, "lab")
TTL = 0.5


@pytest.fixture(scope="module")
def brief_hub() -> Iterator[RunningHub]:
    """Its sessions do not wait for long."""
    with ready_hub(*LAB, cwd=MODULES, env={"TRUNKLINE_SESSION_SECONDS": str(TTL)}) as running:
        yield running


@pytest.fixture
def start() -> Iterator[Callable[..., RunningHub]]:
    """Starts hubs that the test may kill."""
    with ExitStack() as stack:

        def started() -> RunningHub:
            hub = RunningHub(LAB, cwd=MODULES)
            stack.callback(hub.discard)
            return hub.__enter__().ready()

        yield started


async def begun(client: Hub, marker: Path) -> asyncio.Task[Any]:
    """A call that surely runs, and does not end."""
    call = asyncio.create_task(client.call("lab.cleanup", {"marker": str(marker)}))
    await asyncio.to_thread(eventually, Path(f"{marker}.started").exists, "it runs")
    return call


async def away(proxy: Proxy, client: Hub) -> Changes:
    """Cut it, and do not let it come back."""
    changes = Changes(client)
    proxy.refuse()
    proxy.cut()
    await changes.wait_for("reconnecting")
    return changes


async def kill(hub: RunningHub) -> None:
    hub.executor_pids()
    hub.process.kill()
    await asyncio.to_thread(hub.wait_ended, -9)


# --- the time to live ---


async def test_when_its_time_is_over_calls_end_though_there_is_no_connection(
    brief_hub: RunningHub, tmp_path: Path
) -> None:
    async with through_proxy(brief_hub.port) as (proxy, client):
        call = await begun(client, tmp_path / "m")
        stream = aiter(await client.stream("debug.count", {"n": 3, "interval_ms": 60_000}))
        await anext(stream)
        await away(proxy, client)
        with pytest.raises(DisconnectedError, match="time is over") as caught:
            await asyncio.wait_for(call, PATIENCE)
        assert caught.value.maybe_executed
        assert caught.value.reason is None
        with pytest.raises(DisconnectedError):
            await asyncio.wait_for(anext(stream), PATIENCE)
        assert client.connection_state == "reconnecting"
        proxy.refuse(False)
        assert await client.call("debug.echo", {"value": 1}) == 1, "and it goes on"


async def test_what_was_never_written_waits_longer_than_the_session(brief_hub: RunningHub) -> None:
    async with through_proxy(brief_hub.port) as (proxy, client):
        changes = await away(proxy, client)
        queued = asyncio.create_task(client.call("debug.echo", {"value": "late"}))
        stream = await client.stream("lab.echo_input", input=[1, 2, 3])
        await asyncio.sleep(2 * TTL)
        proxy.refuse(False)
        assert await asyncio.wait_for(queued, PATIENCE) == "late"
        assert [chunk.data async for chunk in stream] == [1, 2, 3]
        assert await changes.wait_for("connected") == Connected(resumed=False)


async def test_one_that_expired_at_the_hub_only_says_so(brief_hub: RunningHub, tmp_path: Path) -> None:
    """The hub sees the cut, the client does not, until later."""
    async with through_proxy(brief_hub.port) as (proxy, client):
        call = await begun(client, tmp_path / "m")
        proxy.sever()
        await asyncio.to_thread(eventually, (tmp_path / "m").exists, "the hub gave the call up")
        proxy.cut()
        with pytest.raises(DisconnectedError, match="expired") as caught:
            await asyncio.wait_for(call, PATIENCE)
        assert caught.value.maybe_executed
        assert caught.value.reason == "expired"


# --- a hub that is killed ---


async def test_a_hub_that_was_killed_and_comes_back(start: Callable[..., RunningHub], tmp_path: Path) -> None:
    marker = tmp_path / "runs"
    served: list[int] = []

    async def serve(params: dict[str, int], _call: object) -> int:
        served.append(params["n"])
        return -params["n"]

    hub = await asyncio.to_thread(start)
    async with through_proxy(hub.port) as (proxy, client), asyncio.timeout(6 * PATIENCE):
        changes = Changes(client)
        await client.register("back.negate", serve)
        async with client.subscribe("back.topic") as events, client.subscribe("back.*") as pattern:
            last = await client.publish("back.topic", "old")
            assert isinstance(await anext(events), Event)
            assert isinstance(await anext(pattern), Event)
            call = await begun(client, tmp_path / "m")
            proxy.refuse()
            await kill(hub)
            await changes.wait_for("reconnecting")
            queued = asyncio.create_task(client.call("lab.counted_run", {"marker": str(marker)}))
            second = await asyncio.to_thread(start)
            proxy.target_port = second.port
            async with connect(second.url) as other:
                renewed = await other.publish("back.topic", "missed")
                proxy.refuse(False)
                with pytest.raises(DisconnectedError, match="unknown") as caught:
                    await call
                assert caught.value.maybe_executed
                assert await queued == "done"
                assert marker.read_text() == "x"
                assert await changes.wait_for("connected") == Connected(resumed=False)
                assert last.epoch != renewed.epoch
                assert await anext(events) == Gap("back.topic", renewed.epoch, 1, 1, None, "epoch")
                await other.publish("back.topic", "new")
                assert (await anext(events)).position.offset == 2
                gaps = [item for item in [await anext(pattern), await anext(pattern)] if isinstance(item, Gap)]
                assert {(gap.topic, gap.reason) for gap in gaps} == {("back.*", "epoch"), ("back.topic", "epoch")}
                assert (await anext(pattern)).position.offset == 2
                assert await other.call("back.negate", {"n": 7}) == -7
    assert served == [7]


async def test_a_hub_that_stops_and_comes_back(start: Callable[..., RunningHub]) -> None:
    hub = await asyncio.to_thread(start)
    async with through_proxy(hub.port) as (proxy, client), asyncio.timeout(6 * PATIENCE):
        changes = Changes(client)
        await asyncio.to_thread(hub.stop)
        first = await changes.wait_for("reconnecting")
        assert first.cause.code == 1012
        proxy.target_port = (await asyncio.to_thread(start)).port
        assert await client.call("debug.echo", {"value": 1}) == 1


# --- without a session ---


async def test_without_a_session_a_cut_ends_what_was_sent(lab_hub: RunningHub, tmp_path: Path) -> None:
    async with through_proxy(lab_hub.port, session=False) as (proxy, client):
        changes = Changes(client)
        async with client.subscribe("none.topic") as events:
            await client.publish("none.topic", 1)
            assert isinstance(await anext(events), Event)
            call = await begun(client, tmp_path / "m")
            proxy.cut()
            with pytest.raises(DisconnectedError, match="lost") as caught:
                await asyncio.wait_for(call, PATIENCE)
            assert caught.value.maybe_executed
            assert await changes.wait_for("connected") == Connected(resumed=False)
            async with connect(lab_hub.url) as other:
                await other.publish("none.topic", 2)
            event = await asyncio.wait_for(anext(events), PATIENCE)
            assert isinstance(event, Event)
            assert event.data == 2


async def test_without_a_session_what_is_served_is_registered_again(lab_hub: RunningHub) -> None:
    async def one(_params: object, _call: object) -> int:
        return 1

    async with through_proxy(lab_hub.port, session=False) as (proxy, client), connect(lab_hub.url) as caller:
        changes = Changes(client)
        await client.register("none.one", one)
        proxy.cut()
        await changes.wait_for("connected")
        await client.call("rpc.ping")
        async with asyncio.timeout(PATIENCE):
            assert await caller.call("none.one", retry=False) == 1


# --- for good ---


async def test_closing_ends_the_session_at_the_hub_at_once(lab_hub: RunningHub, tmp_path: Path) -> None:
    async with connect(lab_hub.url) as client:
        call = await begun(client, tmp_path / "m")
    await asyncio.to_thread(eventually, (tmp_path / "m").exists, "the hub gave the call up")
    with pytest.raises(DisconnectedError, match="closed") as caught:
        await call
    assert caught.value.maybe_executed


async def test_closing_while_the_hub_hangs_does_not_take_long(lab_hub: RunningHub) -> None:
    async with Proxy(lab_hub.port) as proxy:
        async with connect(proxy.url) as client:
            call = asyncio.create_task(client.call("debug.echo", {"value": "x" * 10**7}))
            proxy.stall()
            before = proxy.arrived["to_hub"]
            await until(lambda: proxy.arrived["to_hub"] > before, "it is being sent")
            started = time.monotonic()
        assert time.monotonic() - started < PATIENCE
        with pytest.raises(DisconnectedError):
            await call


async def test_closed_tells_how_it_ended(lab_hub: RunningHub) -> None:
    async with connect(lab_hub.url) as client:
        waiting = asyncio.ensure_future(client.closed)
        changes = Changes(client)
        await client.call("rpc.ping")
        assert not waiting.done()
    info = CloseInfo(1000, "closed by this client")
    assert await waiting == info
    assert changes.seen == [Closed(info.code, info.reason)]
    with pytest.raises(DisconnectedError, match="closed") as caught:
        await client.call("rpc.ping")
    assert not caught.value.maybe_executed
    with pytest.raises(DisconnectedError):
        await client.notify("debug.echo")


async def test_revoked_credentials_end_it_for_good(tmp_path: Path) -> None:
    secret, digest = new_token()
    tokens = tmp_path / "tokens.toml"
    entry = f'[[tokens]]\nname = "me"\nsha256 = "{digest}"\n'
    tokens.write_text(entry)
    tokens.chmod(0o600)
    with ready_hub(env={"TRUNKLINE_TOKENS_FILE": str(tokens), "TRUNKLINE_DRAIN_SECONDS": "0.2"}) as hub:
        async with connect(hub.url, token=secret) as client:
            call = asyncio.create_task(client.call("debug.sleep", {"seconds": 60}))
            await client.call("rpc.ping")
            tokens.write_text("")
            hub.process.send_signal(signal.SIGHUP)
            assert (await asyncio.wait_for(client.closed, PATIENCE)).code == 4501
            with pytest.raises(DisconnectedError):
                await call
            assert client.connection_state == "closed"


async def test_a_token_is_asked_for_before_every_attempt_until_there_is_none() -> None:
    asked: list[str] = []

    async def token() -> str:
        await asyncio.sleep(0)
        asked.append("x")
        if len(asked) == 2:
            raise RuntimeError("the key server is away")
        if len(asked) == 5:
            raise AuthenticationError("signed out")
        return "right" if len(asked) < 4 else "wrong"

    with ready_hub(env={"TRUNKLINE_TOKEN": "right", "TRUNKLINE_DRAIN_SECONDS": "0.2"}) as hub:
        async with through_proxy(hub.port, token=token) as (proxy, client):
            changes = Changes(client)
            proxy.cut()
            await changes.wait_for("connected")
            assert "key server" in changes.reconnecting()[1].cause.reason
            call = asyncio.create_task(client.call("debug.sleep", {"seconds": 60}))
            await client.call("rpc.ping")
            proxy.cut()
            info = await asyncio.wait_for(client.closed, PATIENCE)
            assert "HTTP 403" in changes.reconnecting()[-1].cause.reason, "a hub that refuses it is asked again"
            assert (info.code, info.reason, len(asked)) == (4501, "signed out", 5)
            with pytest.raises(DisconnectedError, match="signed out"):
                await call


@pytest.mark.virtual_time
async def test_a_hub_that_is_not_there_is_tried_until_it_is() -> None:
    reconnect = Reconnect(min_delay=0.01, max_delay=0.05)
    async with client_in_memory(reconnect=reconnect) as (hub, client):
        changes = Changes(client)
        hub.is_away = True
        await hub.cut()
        await changes.wait_for("reconnecting", 8)
        waits = [change.delay for change in changes.reconnecting()[:8]]
        longer = [0.005, 0.005, 0.005, 0.0075, 0.01125, 0.016875, 0.025, 0.025]
        assert waits == pytest.approx(longer), "the longer it is away, the longer they are"
        hub.is_away = False
        await changes.wait_for("connected")
        seen = len(changes.seen)
        await hub.cut()
        await changes.wait_for("connected", 2)
        assert changes.reconnecting(seen)[0].delay == pytest.approx(0.005), "the count began anew"


async def test_a_listener_that_raises_harms_nobody(lab_hub: RunningHub, caplog: pytest.LogCaptureFixture) -> None:
    def fail(_change: object) -> None:
        raise LookupError("a bug of the listener's")

    async with through_proxy(lab_hub.port) as (proxy, client):
        remove = client.on_connection_state(fail)
        changes = Changes(client)
        proxy.cut()
        await changes.wait_for("connected")
        assert await client.call("debug.echo", {"value": 1}) == 1
        assert "a bug of the listener's" in caplog.text
        remove()
        caplog.clear()
        proxy.cut()
        await changes.wait_for("connected", 2)
        assert caplog.text == ""


async def test_each_change_is_a_line_of_the_log(lab_hub: RunningHub, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "trunkline.client")
    async with through_proxy(lab_hub.port) as (proxy, client):
        changes = Changes(client)
        proxy.cut()
        await changes.wait_for("connected")
    lines = [record.getMessage() for record in caplog.records if record.getMessage().startswith("the connection: ")]
    states = [line.removeprefix("the connection: ").split("(")[0] for line in lines]
    assert states == ["Connected", "Reconnecting", "Connected", "Closed"]
    assert "resumed=True" in lines[2]


async def test_where_the_hub_has_no_room_for_sessions_it_goes_on_without() -> None:
    with ready_hub(env={"TRUNKLINE_MAX_SESSIONS": "1"}) as hub:
        async with connect(hub.url), connect(hub.url) as client:
            assert await client.call("debug.echo", {"value": 1}) == 1, "it goes on without a session"
            with pytest.raises(RpcError):
                await client.call("no.such")
