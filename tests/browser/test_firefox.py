"""Firefox, which asks for ``Connection: keep-alive, Upgrade``: the dashboard in it connects and subscribes."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.hub import ready_hub
from tests.support.peer import peer
from tests.support.timing import PATIENCE


@contextmanager
def firefox(url: str, profile: Path) -> Iterator[None]:
    """A headless Firefox at a page; skipped where there is none, but not in CI."""
    program = shutil.which("firefox-esr") or shutil.which("firefox")
    if program is None:
        reason = "no firefox on the path: make deps-debian installs it"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    command = [program, "--headless", "--no-remote", "--profile", str(profile), url]
    environment = os.environ | {"HOME": str(profile), "MOZ_CRASHREPORTER_DISABLE": "1"}
    quiet = subprocess.DEVNULL
    process = subprocess.Popen(command, env=environment, stdout=quiet, stderr=quiet, start_new_session=True)
    try:
        yield
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


async def test_the_dashboard_connects_from_firefox(tmp_path: Path) -> None:
    with ready_hub() as hub, firefox(f"http://127.0.0.1:{hub.port}/", tmp_path):
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
