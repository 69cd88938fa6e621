"""Takes the pictures of the dashboard in ``docs/images``: ``python -m tests.browser.screenshots``."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Final, Literal

from playwright.async_api import Browser, Page, async_playwright, expect

from tests.browser.conftest import CHROMIUM_FLAGS, ROOT, chromium
from tests.browser.dashboard import VIEWS, dashboard, load, says, show
from tests.support.hub import RunningHub, ready_hub
from tests.support.peer import peer

FOLDER: Final = ROOT / "docs" / "images"
PHONE_VIEWS: Final = ("overview", "topics", "logs")
MAX_BYTES: Final = 180_000
SCHEMES: Final[tuple[Literal["light", "dark"], ...]] = ("light", "dark")
WORK_SECONDS: Final = 75
"""How long the hub works before the first picture, so that charts have something to show."""


async def take_all() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium(), args=list(CHROMIUM_FLAGS))
        with ready_hub(executors=3, env={"TRUNKLINE_LOG_REQUESTS": "true"}) as hub:
            async with load(hub, callers=8), peer(hub.url) as caller:
                for seconds in (60, 90):
                    await caller.request("debug.sleep", {"seconds": seconds * 10}, metadata={"timeout_ms": 3_600_000})
                await take(browser, hub)
        await browser.close()


async def take(browser: Browser, hub: RunningHub) -> None:
    context = await browser.new_context(viewport={"width": 1200, "height": 730})
    async with dashboard(context, hub) as page:
        await says(page, "Live")
        await prepare(page)
        await asyncio.sleep(WORK_SECONDS)
        os.kill(max(hub.executor_pids()), signal.SIGKILL)
        await expect(page.locator(".banner")).to_contain_text("SIGKILL")
        await picture(page, "executor-down")
        await expect(page.locator(".banner")).not_to_contain_text("executor-")
        await asyncio.sleep(5)
        for scheme in SCHEMES:
            await page.emulate_media(color_scheme=scheme)
            for view in VIEWS:
                # A log is all text, of which pictures are large.
                await page.set_viewport_size({"width": 1200, "height": 500 if view == "logs" else 730})
                await show(page, view)
                await asyncio.sleep(1.2)
                await picture(page, f"{view}-{scheme}")
        await page.set_viewport_size({"width": 390, "height": 844})
        for view in PHONE_VIEWS:
            await show(page, view)
            await asyncio.sleep(1.2)
            await picture(page, f"{view}-phone")
        await page.set_viewport_size({"width": 1200, "height": 730})
        await show(page, "overview")
        os.kill(hub.process.pid, signal.SIGSTOP)
        try:
            await says(page, "Stale")
            await asyncio.sleep(4)
            await picture(page, "not-live")
        finally:
            os.kill(hub.process.pid, signal.SIGCONT)
    await context.close()


async def prepare(page: Page) -> None:
    """A tail that is followed, and a stream in the console."""
    await show(page, "topics")
    await page.get_by_label("Topic or pattern").fill("jobs.>")
    await page.get_by_role("button", name="Follow", exact=True).click()
    await show(page, "console")
    await page.get_by_role("button", name="debug.count").click()
    await page.locator("#param-n").fill("16")
    await page.locator("#param-interval_ms").fill("45")
    await page.get_by_role("button", name="Stream it").click()
    await expect(page.locator(".outcome .state")).to_have_text("ok")
    await show(page, "overview")


async def picture(page: Page, name: str) -> None:
    """One file; small, since it lives in the repository."""
    path: Path = FOLDER / f"{name}.png"
    await page.mouse.move(0, 0)
    taken = await page.screenshot(path=path)
    size = len(taken)
    assert size < MAX_BYTES, f"{path.name} has {size} bytes"
    print(f"{path.name} {size}")


if __name__ == "__main__":
    asyncio.run(take_all())
