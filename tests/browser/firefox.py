"""A headless Firefox, driven by WebDriver BiDi, which it speaks itself: no driver beside it."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Final

import pytest
import websockets
from websockets.asyncio.client import ClientConnection

from tests.support.timing import PATIENCE

LISTENING: Final = re.compile(r"WebDriver BiDi listening on (ws://\S+)")
START: Final = 4 * PATIENCE
"""How long Firefox may take until it shows its first page."""

LOOK: Final = 0.05
"""Seconds between two looks at a page."""


@contextmanager
def firefox(profile: Path, *arguments: str) -> Iterator[Path]:
    """A headless Firefox; skipped where there is none, but not in CI. Yields the file of what it says."""
    program = shutil.which("firefox-esr") or shutil.which("firefox")
    if program is None:
        reason = "no firefox on the path: make deps-debian installs it"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    command = [program, "--headless", "--no-remote", "--profile", str(profile), *arguments]
    environment = os.environ | {"HOME": str(profile), "MOZ_CRASHREPORTER_DISABLE": "1"}
    said = profile / "stderr"
    with said.open("w") as file:
        process = subprocess.Popen(command, env=environment, stdout=file, stderr=file, start_new_session=True)
    try:
        yield said
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


class FirefoxPage:
    """One tab."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._sent = 0
        self._tab = ""

    async def open(self, url: str) -> None:
        """Begin a session, and go there."""
        await self._command("session.new", capabilities={})
        tree = await self._command("browsingContext.getTree")
        self._tab = tree["contexts"][0]["context"]
        await self._command("browsingContext.navigate", context=self._tab, url=url, wait="complete")

    async def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression: a string, number, boolean or null."""
        target = {"context": self._tab}
        answer = await self._command("script.evaluate", expression=expression, target=target, awaitPromise=True)
        if answer["type"] == "exception":
            raise AssertionError(f"{expression}: {answer['exceptionDetails']['text']}")
        return answer["result"].get("value")

    async def until(self, expression: str, expected: Any = True, within: float = PATIENCE) -> None:
        """Look until an expression has a value."""
        found = None
        try:
            async with asyncio.timeout(within):
                while (found := await self.evaluate(expression)) != expected:
                    await asyncio.sleep(LOOK)
        except TimeoutError:
            raise AssertionError(f"{expression} is {found!r}, not {expected!r}, for {within} s") from None

    async def click(self, selector: str) -> None:
        """Wait for an element that can be clicked, and do it."""
        await self.until(f"document.querySelector({selector!r})?.disabled === false")
        await self.evaluate(f"document.querySelector({selector!r}).click()")

    async def type(self, selector: str, text: str) -> None:
        """Put a text into a field, as typing does."""
        await self.until(f"document.querySelector({selector!r}) !== null")
        await self.evaluate(
            f"(() => {{ const field = document.querySelector({selector!r}); field.value = {json.dumps(text)};"
            'field.dispatchEvent(new Event("input", {bubbles: true})); })()'
        )

    async def _command(self, method: str, **params: Any) -> Any:
        self._sent += 1
        await self._socket.send(json.dumps({"id": self._sent, "method": method, "params": params}))
        async with asyncio.timeout(START):
            while (message := json.loads(await self._socket.recv())).get("id") != self._sent:
                pass  # an event that nobody asked for
        if message["type"] == "error":
            raise AssertionError(f"{method}: {message['error']}: {message['message']}")
        return message["result"]


@asynccontextmanager
async def firefox_page(url: str, profile: Path) -> AsyncIterator[FirefoxPage]:
    """A Firefox that shows a page."""
    with firefox(profile, "--remote-debugging-port", "0", "about:blank") as said:
        async with asyncio.timeout(START):
            while (found := LISTENING.search(said.read_text())) is None:
                await asyncio.sleep(LOOK)
        async with websockets.connect(f"{found[1]}/session", max_size=None) as socket:
            page = FirefoxPage(socket)
            await page.open(url)
            yield page
