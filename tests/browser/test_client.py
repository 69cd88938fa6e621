"""The JavaScript client in a real browser, against a real hub that comes and goes."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from playwright.async_api import BrowserContext, Page

from tests.support.hub import RunningHub, ready_hub
from tests.support.peer import peer
from tests.support.ports import reserved_port
from tests.support.proxy import Proxy
from tests.support.timing import PATIENCE

OPEN = """async ([url, options]) => {
  const { connect } = await import("/trunkline.js");
  window.states = [];
  window.hub = await connect(url, options ?? {});
  window.hub.onConnectionState((state) => window.states.push(state.state));
}"""


@pytest.fixture(scope="module")
def steady_hub() -> Iterator[RunningHub]:
    with ready_hub() as hub:
        yield hub


@asynccontextmanager
async def page_at(
    context: BrowserContext, hub: RunningHub, options: dict[str, Any] | None = None, port: int | None = None
) -> AsyncIterator[Page]:
    """A page of the hub's own, connected to it; an exception nobody caught fails the test.

    Args:
        port: where the hub is to be found, if not at its own.
    """
    page = await context.new_page()
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    await page.goto(f"http://127.0.0.1:{port or hub.port}/")
    await page.evaluate(OPEN, [f"ws://127.0.0.1:{port or hub.port}/ws", options])
    yield page
    assert not faults, faults
    await page.close()


async def state(page: Page, wanted: str) -> None:
    await page.wait_for_function(
        "(wanted) => window.hub.connectionState === wanted", arg=wanted, timeout=PATIENCE * 1000
    )


async def test_calls_streams_and_events(context: BrowserContext, steady_hub: RunningHub) -> None:
    async with page_at(context, steady_hub) as page:
        assert await page.evaluate("hub.call('debug.echo', { value: 'Grüße' })") == "Grüße"
        chunks = await page.evaluate(
            """async () => {
              const stream = hub.stream("debug.count", { n: 200 });
              const seen = [];
              for await (const { data } of stream) seen.push(data.index);
              return { seen, result: await stream.result };
            }"""
        )
        assert chunks == {"seen": list(range(200)), "result": {"chunks": 200}}
        event = await page.evaluate(
            """async () => {
              const subscription = await hub.subscribe("browser.*");
              await hub.publish("browser.tab", { n: 1 });
              for await (const message of subscription) return message.data;
            }"""
        )
        assert event == {"n": 1}


async def test_a_typed_error_says_what_happened(context: BrowserContext, steady_hub: RunningHub) -> None:
    async with page_at(context, steady_hub) as page:
        error = await page.evaluate(
            "hub.call('no.such').catch(({ name, code, maybeExecuted }) => ({ name, code, maybeExecuted }))"
        )
        assert error == {"name": "RpcError", "code": -32601, "maybeExecuted": False}


async def test_the_page_serves_a_method(context: BrowserContext, steady_hub: RunningHub) -> None:
    async with page_at(context, steady_hub) as page, peer(steady_hub.url) as other:
        await page.evaluate("hub.register('tab.title', async ({ suffix }) => document.title + suffix)")
        assert await other.result("tab.title", {"suffix": "!"}) == "Trunkline!"


async def test_offline_and_back_online_loses_nothing(context: BrowserContext, steady_hub: RunningHub) -> None:
    async with Proxy(steady_hub.port) as proxy, page_at(context, steady_hub, port=proxy.port) as page:
        await page.evaluate("window.slow = hub.call('debug.sleep', { seconds: 1 }).then(() => 'slept'), undefined")
        await page.evaluate("hub.call('rpc.ping')")
        await context.set_offline(True)
        proxy.refuse(True)
        proxy.cut()
        await state(page, "reconnecting")
        await page.evaluate("window.queued = hub.call('debug.echo', { value: 'queued' }), undefined")
        proxy.refuse(False)
        await context.set_offline(False)
        assert await page.evaluate("window.slow") == "slept"
        assert await page.evaluate("window.queued") == "queued"
        *away, back = await page.evaluate("window.states")  # one "reconnecting" for each attempt
        assert (set(away), back) == ({"reconnecting"}, "connected")


QUEUED = "window.queued = hub.call('debug.echo', { value: 'for the next one' }, { timeoutMs: 600_000 }), undefined"


async def test_a_hub_that_was_killed_and_comes_back(context: BrowserContext) -> None:
    with reserved_port() as port, ready_hub(arguments=("--port", str(port))) as hub:
        async with page_at(context, hub, {"reconnect": {"maxDelayMs": 500}}) as page:
            await page.evaluate(
                """async () => {
                  window.fate = hub.call("debug.sleep", { seconds: 60 })
                    .then(() => "done", ({ name, maybeExecuted }) => ({ name, maybeExecuted }));
                  await hub.call("rpc.ping");
                }"""
            )
            hub.process.kill()
            hub.wait_ended(-signal.SIGKILL)
            await state(page, "reconnecting")
            await page.evaluate(QUEUED)
            with ready_hub(arguments=("--port", str(port))):
                await state(page, "connected")
                assert await page.evaluate("window.fate") == {"name": "DisconnectedError", "maybeExecuted": True}
                assert await page.evaluate("window.queued") == "for the next one"
                states = await page.evaluate("window.states")  # one "reconnecting" for each attempt
                assert (states[0], states[-1]) == ("reconnecting", "connected")
                await page.evaluate("hub.close()")
                await state(page, "closed")


TOKEN = "a-long-enough-token-for-this-hub"


async def test_the_token_goes_by_subprotocol(context: BrowserContext) -> None:
    with ready_hub(env={"TRUNKLINE_TOKEN": TOKEN}) as hub:
        async with page_at(context, hub, {"token": TOKEN}) as page:
            assert await page.evaluate("hub.call('debug.echo', { value: 1 })") == 1
            refused = await page.evaluate(
                """async (url) => {
                  const { connect } = await import("/trunkline.js");
                  return connect(url, { token: "wrong" }).catch(({ name }) => name);
                }""",
                hub.url,
            )
            assert refused == "ConnectError"


async def test_a_foreign_page_is_not_let_in(context: BrowserContext, steady_hub: RunningHub) -> None:
    with ready_hub() as other:
        page = await context.new_page()
        await page.goto(f"http://127.0.0.1:{other.port}/health")  # whose policy does not keep it from trying
        name = await page.evaluate(
            """async (url) => {
              const { connect } = await import("/trunkline.js");
              return connect(url).catch(({ name }) => name);
            }""",
            steady_hub.url,
        )
        assert name == "ConnectError"
