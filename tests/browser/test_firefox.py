"""Firefox, which asks for ``Connection: keep-alive, Upgrade``: the dashboard in it connects, calls, and comes back."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from typing import Any, Final

from tests.browser.firefox import firefox, firefox_page
from tests.support.hub import ready_hub
from tests.support.peer import peer
from tests.support.ports import reserved_port
from tests.support.timing import PATIENCE

WORD: Final = "document.querySelector('.belief b')?.textContent"


async def test_the_dashboard_connects_from_firefox(tmp_path: Path) -> None:
    with ready_hub() as hub, firefox(tmp_path, f"http://127.0.0.1:{hub.port}/"):
        async with peer(hub.url) as watcher, asyncio.timeout(4 * PATIENCE):
            await watcher.result("subscribe", {"topic": "system.connections"})
            while (found := from_firefox(await watcher.receive(4 * PATIENCE))) is None:
                pass
        assert found["transport"] == "websocket"
        assert found["subscriptions"] >= 2, "it listens to what the hub says of itself"


def from_firefox(message: Any) -> dict[str, Any] | None:
    """The connection of a Firefox that has subscribed, in a message of ``system.connections``."""
    table = message.get("params", {}).get("data", {}).get("connections") or []
    return next((row for row in table if "Firefox" in (row["client"] or "") and row["subscriptions"] >= 2), None)


async def test_firefox_calls_streams_and_comes_back(tmp_path: Path) -> None:
    with reserved_port() as port, ready_hub(arguments=("--port", str(port))) as hub:
        async with firefox_page(f"http://127.0.0.1:{hub.port}/#/console", tmp_path) as page:
            await page.until(WORD, "Live", within=3 * PATIENCE)
            await page.type(".methods input", "debug.echo")
            await page.until("document.querySelectorAll('.methods li').length", 1)
            await page.click(".methods li button")
            await page.type("#param-value", '{"list": [1, null, "\u00fc"]}')
            await page.click(".call button[type=submit]")
            await page.until("document.querySelector('.outcome .state')?.textContent", "ok")
            assert '"\u00fc"' in await page.evaluate("document.querySelector('.result pre').textContent")
            await page.type(".methods input", "debug.count")
            await page.until("document.querySelectorAll('.methods li').length", 1)
            await page.click(".methods li button")
            await page.type("#param-n", "12")
            await page.click(".call button[type=submit]")
            await page.until("document.querySelectorAll('.stream tbody tr').length", 12)
            hub.process.kill()
            hub.wait_ended(-signal.SIGKILL)
            await page.until(WORD, "Reconnecting")
            await page.evaluate("location.hash = '#/overview'")
            await page.until("document.querySelector('.banner .headline')?.textContent.startsWith('Not live')")
            with ready_hub(arguments=("--port", str(port))):
                await page.until(WORD, "Live", within=3 * PATIENCE)
                await page.until("document.querySelector('.banner .headline').textContent", "Healthy")
