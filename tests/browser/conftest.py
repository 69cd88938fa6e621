"""A real Chromium. ``make test-browser`` runs this folder; a missing browser is a skip here and a failure in CI."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import pytest
from playwright.async_api import Browser, BrowserContext, async_playwright, expect

from tests.support.timing import PATIENCE

ROOT: Final = Path(__file__).parents[2]
BUNDLE: Final = ROOT / "clients" / "js" / "dist" / "index.js"
CHROMIUM_FLAGS: Final = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)

MOMENT: Final = PATIENCE * 1000
"""Milliseconds in which a page shows what it has to: only what never comes takes so long."""

expect.set_options(timeout=MOMENT)


def chromium() -> str:
    """The browser's path; skips (or fails, in CI) where there is none."""
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        reason = "no chromium on the path: make deps-debian installs it"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return found


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    """A browser without windows."""
    path = chromium()
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=path, args=list(CHROMIUM_FLAGS))
        yield browser
        await browser.close()


@pytest.fixture
async def context(browser: Browser) -> AsyncIterator[BrowserContext]:
    """A fresh profile, in which every page can import the client from ``/trunkline.js``."""
    context = await browser.new_context()
    context.set_default_timeout(3 * MOMENT)
    await context.route("**/trunkline.js", lambda route: route.fulfill(path=BUNDLE, content_type="text/javascript"))
    yield context
    await context.close()
