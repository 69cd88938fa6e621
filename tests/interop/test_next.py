"""The client that a hub serves, in an application of Next.js: in a client component, and in a route handler."""

from __future__ import annotations

import asyncio
import json
import shutil
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import asdict

import pytest
from playwright.async_api import async_playwright

from tests.browser.conftest import CHROMIUM_FLAGS, chromium
from tests.interop.fresh import SOURCES, Place, command, place, project, require_all, serving, tool
from tests.interop.node import FOLDER, MODULES, require_packages
from tests.support.hub import RunningHub
from tests.support.timing import PATIENCE

NODE22 = "node22/bin/node"
BUILT = FOLDER / "build"
"""Below this folder: Next looks for itself and for React further up, and follows no links."""


@pytest.fixture(scope="module")
def application(runtimes_hub: RunningHub) -> Iterator[str]:
    """Built for production, and started."""
    require_packages("next", "react", "react-dom")
    folder = BUILT / "next"
    shutil.rmtree(folder, ignore_errors=True)
    project(folder, runtimes_hub, sources=FOLDER / "next")
    shutil.copy(SOURCES / "scenario.js", folder)
    env = {"NEXT_TELEMETRY_DISABLED": "1"}
    command(tool(NODE22), MODULES / "next/dist/bin/next", "build", cwd=folder, within=18 * PATIENCE, env=env)
    words = ("start", "--port", "0", "--hostname", "127.0.0.1")
    with serving(folder, tool(NODE22), MODULES / "next/dist/bin/next", *words) as address:
        yield address
    shutil.rmtree(folder)


def query(found: Place) -> str:
    return urllib.parse.urlencode(asdict(found))


@pytest.mark.timeout(600)
async def test_a_client_component(runtimes_hub: RunningHub, application: str) -> None:
    async with place(runtimes_hub) as found, async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium(), args=list(CHROMIUM_FLAGS))
        try:
            page = await browser.new_page()
            await page.goto(f"{application}/?{query(found)}")
            said = page.locator("#said:not(:empty)")
            require_all(json.loads(await said.inner_text(timeout=3000 * PATIENCE)))
        finally:
            await browser.close()


@pytest.mark.timeout(600)
async def test_a_route_handler(runtimes_hub: RunningHub, application: str) -> None:
    def get(url: str) -> bytes:
        with urllib.request.urlopen(url, timeout=3 * PATIENCE) as answer:
            return bytes(answer.read())

    async with place(runtimes_hub) as found:
        require_all(json.loads(await asyncio.to_thread(get, f"{application}/api/scenario?{query(found)}")))
