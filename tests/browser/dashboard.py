"""What tests and screenshots of the dashboard share: a page that may not break any rule, and a hub that has work."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from playwright.async_api import BrowserContext, ConsoleMessage, Page, Request, expect

from tests.browser.conftest import MOMENT
from tests.support.hub import RunningHub
from tests.support.peer import Peer, peer

VIEWS: Final = ("overview", "executors", "requests", "connections", "topics", "logs", "console")


@asynccontextmanager
async def dashboard(context: BrowserContext, hub: RunningHub, view: str = "overview") -> AsyncIterator[Page]:
    """The hub's own page. An exception nobody caught, a rule of its security policy that it breaks, or a request to
    anybody but its hub fails the test.
    """
    page = await context.new_page()
    faults: list[str] = []
    origin = f"http://127.0.0.1:{hub.port}/"

    def on_console(message: ConsoleMessage) -> None:
        if "Content Security Policy" in message.text:
            faults.append(message.text)

    def on_request(request: Request) -> None:
        if not request.url.startswith(origin):
            faults.append(f"asked for {request.url}")

    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", on_console)
    page.on("request", on_request)
    await page.goto(f"{origin}#/{view}")
    yield page
    assert not faults, faults
    await page.close()


async def show(page: Page, view: str) -> None:
    """Go to a view by its link."""
    await page.get_by_role("navigation").get_by_role("link", name=view.title()).click()
    await expect(page.get_by_role("link", name=view.title())).to_have_attribute("aria-current", "page")


async def says(page: Page, word: str) -> None:
    """Wait until the page says so of its own state."""
    await expect(page.locator(".belief b")).to_have_text(word, timeout=3 * MOMENT)


@asynccontextmanager
async def load(hub: RunningHub, callers: int = 4) -> AsyncIterator[None]:
    """Callers of all kinds, some of whom fail, for as long as the block lasts."""
    async with contextlib.AsyncExitStack() as stack:
        peers = [await stack.enter_async_context(peer(hub.url)) for _ in range(callers)]
        tasks = [asyncio.create_task(_work(each, random.Random(seed))) for seed, each in enumerate(peers)]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            outcomes = await asyncio.gather(*tasks, return_exceptions=True)
            assert all(isinstance(outcome, asyncio.CancelledError) for outcome in outcomes), outcomes


async def _work(caller: Peer, dice: random.Random) -> None:
    for step in itertools.count():
        kind = dice.random()
        if kind < 0.55:
            order = {"request_id": f"order-{dice.randint(1000, 9999)}"}
            await caller.call("debug.echo", {"value": "x" * 50}, metadata=order)
        elif kind < 0.8:
            await caller.call("debug.sleep", {"seconds": dice.random() * 0.05})
        elif kind < 0.9:
            await caller.call("debug.count", {"n": 20})
        elif kind < 0.92:
            await caller.call("debug.fail", {"message": "the model file is corrupt"})
        elif kind < 0.925:
            await caller.call("debug.count", {"n": "many"})
        else:
            data = {"step": step, "of": 400, "loss": round(dice.random(), 3)}
            await caller.call("publish", {"topic": f"jobs.{dice.randint(1, 9)}.progress", "data": data})
        caller.others.clear()
        await asyncio.sleep(dice.random() * 0.03)
