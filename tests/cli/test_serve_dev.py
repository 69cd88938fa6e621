"""``trunkline serve --dev``: pages of development servers may connect, errors are whole, saved code is loaded again."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.support.command import trunkline
from tests.support.frames import raw_tcp
from tests.support.hub import RunningHub
from tests.support.peer import peer
from tests.support.timing import START

MODULE = """
from trunkline import method

@method("page.version")
def version() -> int:
    return {number}

@method("page.fails")
def fails() -> None:
    raise LookupError("the page's own")
"""


async def status_of(hub: RunningHub, origin: str) -> int:
    async with raw_tcp(hub.port) as socket:
        return (await socket.upgrade(headers={"Origin": origin})).status


async def test_what_a_page_under_development_needs(tmp_path: Path) -> None:
    module = tmp_path / "page_methods.py"
    module.write_text(MODULE.format(number=1))
    env = {"TRUNKLINE_ALLOWED_ORIGINS": "https://staging.example"}
    with RunningHub(("page_methods",), cwd=tmp_path, arguments=("--dev",), env=env) as hub:
        hub.ready()
        for origin in ("http://localhost:5173", "http://127.0.0.1:3000", "http://[::1]:8080", "https://LOCALHOST"):
            assert await status_of(hub, origin) == 101, origin
        assert await status_of(hub, "https://staging.example") == 101, "what was allowed still is"
        for origin in ("http://localhost.evil.example", "http://evil.example", "null", "http://localhost:5173/x"):
            assert await status_of(hub, origin) == 403, origin
        answer = hub.get("/health", {"Origin": "http://localhost:5173"})
        assert answer.headers["access-control-allow-origin"] == "http://localhost:5173"
        async with peer(hub.url) as page:
            error = await page.error("page.fails")
            assert "LookupError: the page's own" in "".join(error["data"]["traceback"])
            assert await page.result("page.version") == 1
            module.write_text(MODULE.format(number=2))
            async with asyncio.timeout(START):  # an executor has to load it
                while await page.result("page.version") != 2:
                    await asyncio.sleep(0.05)  # until the file's change is seen: no event of this test's


async def test_without_it_no_page_of_another_server_may_connect(debug_hub: RunningHub) -> None:
    assert await status_of(debug_hub, "http://localhost:5173") == 403


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1"])
def test_it_is_refused_where_others_can_reach_the_hub(host: str) -> None:
    done = trunkline("serve", "--dev", "--host", host, env={"TRUNKLINE_TOKEN": "a-long-enough-token-for-this"})
    assert done.returncode == 2
    assert f"--dev is for development: bind 127.0.0.1 instead of {host}, or leave it out" in done.stderr
