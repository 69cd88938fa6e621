"""The page of ``examples/react``, built as its README says, in Chromium, with a hub that comes and goes."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractContextManager, asynccontextmanager
from typing import Final

import pytest
from playwright.async_api import Locator, Page, async_playwright, expect

from tests.browser.conftest import CHROMIUM_FLAGS, ROOT, chromium
from tests.interop.fresh import command, project, serving
from tests.interop.node import FOLDER, MODULES, require_packages
from tests.support.hub import RunningHub, ready_hub
from tests.support.peer import Peer, peer
from tests.support.timing import PATIENCE

EXAMPLE: Final = ROOT / "examples" / "react"
BUILT: Final = FOLDER / "build" / "react"
"""Below this folder, whose packages it finds."""

VITE: Final = ("node", MODULES / "vite/bin/vite.js")
MOMENT: Final = 1000 * PATIENCE
LONG: Final = "try and except"
"""A question whose answer takes seconds."""


def chat_hub(port: int = 0) -> AbstractContextManager[RunningHub]:
    """A hub that serves the example's method."""
    return ready_hub("chat", cwd=EXAMPLE, arguments=("--port", str(port)))


@pytest.fixture(scope="module")
def hub() -> Iterator[RunningHub]:
    """A hub, with whose client and types the page was checked and built."""
    require_packages("vite", "react", "react-dom", "typescript", "@vitejs/plugin-react", "@types/react-dom")
    shutil.rmtree(BUILT, ignore_errors=True)
    with chat_hub() as hub:
        project(BUILT, hub, sources=EXAMPLE)
        words = ("--include", "chat.*", "--language", "typescript", "--output", BUILT / "src" / "methods.ts")
        command(sys.executable, "-m", "trunkline.cli", "generate-client", hub.url, *words, cwd=BUILT)
        command("node", MODULES / "typescript/bin/tsc", cwd=BUILT)
        command(*VITE, "build", "--logLevel", "warn", cwd=BUILT)
        yield hub
    shutil.rmtree(BUILT)


@asynccontextmanager
async def page_at(port: int) -> AsyncIterator[Page]:
    """The page on a phone, with the hub at a port behind its server; an exception nobody caught fails the test."""
    faults: list[str] = []
    env = {"HUB_URL": f"ws://127.0.0.1:{port}"}
    with serving(BUILT, *VITE, "preview", "--host", "127.0.0.1", "--port", "0", env=env) as address:
        async with async_playwright() as playwright:
            browser = await playwright.chromium.launch(executable_path=chromium(), args=list(CHROMIUM_FLAGS))
            try:
                page = await browser.new_page(viewport={"width": 360, "height": 640})
                page.on("pageerror", lambda error: faults.append(str(error)))
                await page.goto(address)
                await connection(page, "connected")
                yield page
            finally:
                await browser.close()
    assert not faults, faults


async def connection(page: Page, state: str) -> None:
    await expect(page.locator(".connection")).to_have_attribute("data-state", state, timeout=MOMENT)


async def ask(page: Page, question: str) -> Locator:
    """Ask by the keyboard alone, and wait for the first words of the answer, or for its failure."""
    exchanges = page.get_by_role("article")
    earlier = await exchanges.count()
    await page.get_by_label("Question", exact=True).fill(question)
    await page.keyboard.press("Enter")
    exchange = exchanges.nth(earlier)
    await expect(exchange.locator("p:not(:empty)").first).not_to_have_text("…", timeout=MOMENT)
    return exchange


async def has_state(exchange: Locator, state: str) -> None:
    await expect(exchange).to_have_attribute("data-state", state, timeout=MOMENT)


async def running(caller: Peer) -> list[str]:
    """The methods of the calls that the hub has in flight."""
    return [call["method"] for call in (await caller.result("system.calls"))["calls"]]


async def publish(hub: RunningHub, question: str) -> None:
    """Say, as another client, that something was asked."""
    async with peer(hub.url) as other:
        await other.result("publish", {"topic": "chat.questions", "data": {"question": question}})


@pytest.mark.timeout(400)  # the first use of npm installs packages
async def test_an_answer_is_shown_while_it_comes_and_an_error_in_words(hub: RunningHub) -> None:
    async with page_at(hub.port) as page:
        await page.evaluate(
            """() => {
              window.shown = new Set();
              const look = () => {
                const answer = document.querySelector("article[data-state=asking] .answer");
                if (answer !== null) window.shown.add(answer.textContent.length);
              };
              new MutationObserver(look).observe(document, { subtree: true, childList: true, characterData: true });
            }"""
        )
        exchange = await ask(page, "What is a lambda?")
        await has_state(exchange, "answered")
        await expect(exchange.locator(".note")).to_have_text("From the chapter “lambda”.")
        await expect(exchange.locator(".answer")).to_contain_text("cannot contain statements or annotations")
        assert await page.evaluate("window.shown.size") > 3, "what came is shown before the rest is there"
        nonsense = await ask(page, "xyzzy")
        await has_state(nonsense, "failed")
        await expect(nonsense.get_by_role("alert")).to_contain_text("The Python reference has none of these words")


async def test_an_answer_is_stopped_and_its_method_with_it(hub: RunningHub) -> None:
    async with page_at(hub.port) as page, peer(hub.url) as other:
        for by in ("button", "key"):
            exchange = await ask(page, LONG)
            assert "chat.answer" in await running(other)
            await (page.get_by_role("button", name="Stop").click() if by == "button" else page.keyboard.press("Escape"))
            await has_state(exchange, "stopped")
            async with asyncio.timeout(PATIENCE):
                while "chat.answer" in await running(other):
                    pass


async def test_what_others_ask_is_seen(hub: RunningHub) -> None:
    async with page_at(hub.port) as page:
        await publish(hub, "Who else is here?")
        newest = page.get_by_role("complementary").get_by_role("listitem").first
        await expect(newest).to_contain_text("Who else is here?", timeout=MOMENT)


@pytest.mark.usefixtures("hub")
async def test_the_hub_is_killed_and_the_page_goes_on_with_the_next_one() -> None:
    with chat_hub() as first:
        async with page_at(first.port) as page:
            frame = page.get_by_role("main")
            place = await frame.bounding_box()
            cut = await ask(page, LONG)
            first.process.kill()
            first.wait_ended(-signal.SIGKILL)
            await connection(page, "reconnecting")
            assert await frame.bounding_box() == place, "nothing has moved"
            with chat_hub(first.port) as second:
                await connection(page, "connected")
                await has_state(cut, "failed")
                await expect(cut.get_by_role("alert")).to_have_text(re.compile("connection was lost"))
                await has_state(await ask(page, "What is a lambda?"), "answered")
                await publish(second, "Still there?")
                await expect(page.get_by_role("complementary")).to_contain_text("Still there?", timeout=MOMENT)


def test_it_asks_for_the_packages_that_are_tested() -> None:
    wanted = json.loads((EXAMPLE / "package.json").read_text())
    tested = json.loads((FOLDER / "package.json").read_text())["dependencies"]
    for name, words in (wanted["dependencies"] | wanted["devDependencies"]).items():
        if name != "trunkline":
            assert tested[name].split(".")[0] == words.removeprefix("^").split(".")[0], name
